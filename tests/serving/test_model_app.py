"""The server of a model: a state per session, limits, and the client of the documentation."""

import asyncio
import dataclasses
import pathlib
import re
import types

import extras
import jax
import live_sessions
import numpy as np
import pytest
from jpegs import jpeg
from live_sessions import BASE, TOKEN, connect

from perceiver_stream import zoo
from perceiver_stream.inference.model_loading import Loaded, blank_tick
from perceiver_stream.serving import model_app
from perceiver_stream.serving.guard import Guard
from perceiver_stream.serving.messages import pack, unpack

extras.need("fastapi", "uvicorn", "websockets")

SIDE = live_sessions.SIDE
DOCS = pathlib.Path(__file__).parents[2] / "docs" / "live.md"


@pytest.fixture(scope="module")
def loaded() -> Loaded:
  config = live_sessions.experiment().model
  model = zoo.build(dataclasses.replace(config, modalities={"pixels": config.modalities["pixels"]}))
  return Loaded(model, model.init(jax.random.PRNGKey(0), blank_tick(model)), None, "nano")


@pytest.fixture
def served(loaded):
  from starlette.testclient import TestClient

  app = model_app.ModelApp(loaded, Guard(token=TOKEN, max_clients=2), max_sessions=2)
  with TestClient(app.application(), base_url=BASE) as client:
    client.headers["authorization"] = f"Bearer {TOKEN}"
    yield app, client


def frames(seed: int, num: int = 3) -> np.ndarray:
  return np.random.default_rng(seed).integers(0, 256, (num, SIDE, SIDE, 3), dtype=np.uint8)


def expected(loaded: Loaded, images: np.ndarray) -> list[np.ndarray]:
  state, found = loaded.model.initial_state(loaded.params, 1), []
  for image in images:
    tick = {"pixels": image[None], "pixels_valid": np.ones(1, bool), "is_first": np.zeros(1, bool)}
    outputs, state = loaded.model.step(loaded.params, state, tick)
    found.append(np.asarray(outputs.predictions["pixels"])[0])
  return found


def test_each_session_has_its_own_state_by_websocket_and_by_http(served, loaded) -> None:
  _, client = served
  one, other = frames(1), frames(2)
  session = client.post("/sessions").json()["session"]
  with connect(client, f"/stream?token={TOKEN}") as socket:
    for i, (mine, theirs) in enumerate(
      zip(expected(loaded, one), expected(loaded, other), strict=True)
    ):
      socket.send_bytes(pack({"latents": True}, {"pixels": one[i]}))
      header, arrays = unpack(socket.receive_bytes())
      assert header == {"displacements": [1, 2]} and arrays["latents"].ndim == 2
      np.testing.assert_allclose(arrays["pixels"], mine, atol=1e-5)
      reply = client.post(f"/sessions/{session}", content=pack({}, {"pixels": other[i]}))
      np.testing.assert_allclose(unpack(reply.content)[1]["pixels"], theirs, atol=1e-5)
  assert client.delete(f"/sessions/{session}").status_code == 200
  assert client.post(f"/sessions/{session}", content=b"").status_code == 404


def test_inputs_are_described_and_a_jpeg_stands_for_pixels(served) -> None:
  _, client = served
  spec = client.get("/spec").json()
  assert spec["inputs"]["pixels"] == {"shape": [SIDE, SIDE, 3], "dtype": "uint8", "rate_hz": 25.0}
  assert spec["outputs"] == ["pixels"] and spec["displacements"] == [1, 2]
  with connect(client, f"/stream?token={TOKEN}") as socket:
    socket.send_bytes(pack({}, {"jpeg": np.frombuffer(jpeg(SIDE, SIDE), np.uint8)}))
    copied = unpack(socket.receive_bytes())[1]["pixels"][0]  # untrained models copy
    assert np.abs(255 * copied[8, 2] - [200, 90, 90]).max() < 8


@pytest.mark.parametrize(
  ("message", "reason"),
  [
    (b"garbage", "header"),
    (
      pack({}, {"sound": np.zeros(3, np.float32)}),
      "unknown arrays .'sound'.; the model takes .'pixels'.",
    ),
    (pack({}, {"pixels": np.zeros((2, 2, 3), np.uint8)}), r"'pixels' is uint8 .2, 2, 3., expected"),
    (pack({}, {"pixels": np.zeros((SIDE, SIDE, 3), np.float32)}), "is float32"),
    (pack({}, {"jpeg": np.frombuffer(jpeg(8, 8), np.uint8)}), "^image: it has 8 x 8 pixels"),
    (
      pack({}, {name: np.zeros((SIDE, SIDE, 3), np.uint8) for name in ("jpeg", "pixels")}),
      "both 'jpeg' and 'pixels'; send one",
    ),
  ],
)
def test_bad_ticks_are_explained_and_leave_the_session(served, message, reason) -> None:
  app, client = served
  session = client.post("/sessions").json()["session"]
  reply = client.post(f"/sessions/{session}", content=message)
  assert reply.status_code == 400
  with connect(client, f"/stream?token={TOKEN}") as socket:
    socket.send_bytes(message)
    error = socket.receive_json()["error"]
    assert error == reply.text
    assert re.search(reason, error)
    socket.send_bytes(pack({}, {"pixels": frames(0)[0]}))
    assert "pixels" in unpack(socket.receive_bytes())[1]
  assert app.refused == 2


def test_limits_and_tokens(served, monkeypatch) -> None:
  app, client = served
  assert client.get("/healthz").json() == {
    "status": "ok", "clients": 0, "sessions": 0, "refused_messages": 0
  }  # fmt: skip
  assert [client.post("/sessions").status_code for _ in range(3)] == [201, 201, 429]
  with monkeypatch.context() as idle:
    idle.setattr(model_app, "IDLE_S", -1.0)
    old = client.post("/sessions").json()["session"]
    assert list(app.sessions) == [old]
    assert client.post(f"/sessions/{old}").status_code == 404 and not app.sessions
  assert client.post("/sessions").status_code == 201
  monkeypatch.setattr(model_app, "MAX_MESSAGE_BYTES", 100)
  (session,) = app.sessions
  assert client.post(f"/sessions/{session}", content=bytes(101)).status_code == 413
  with connect(client, f"/stream?token={TOKEN}") as socket:
    socket.send_bytes(bytes(101))
    assert socket.receive()["code"] == 1009
  del client.headers["authorization"]
  requests = [client.get("/spec"), client.post("/sessions"), client.post(f"/sessions/{session}")]
  requests.append(client.delete(f"/sessions/{session}"))
  assert [reply.status_code for reply in requests] == [403] * 4
  for path in ("/stream", "/stream?token=wrong"):
    with pytest.raises(live_sessions.refusal()), connect(client, path):
      pass


def test_sessions_that_start_at_the_same_time_share_the_limit(loaded, monkeypatch) -> None:
  monkeypatch.setattr(model_app, "Stepper", lambda loaded: types.SimpleNamespace(used_s=1e300))
  app = model_app.ModelApp(loaded, Guard(token=TOKEN), max_sessions=2)
  request = types.SimpleNamespace(
    headers={"host": live_sessions.HOST}, query_params={"token": TOKEN}
  )

  async def many() -> list[int]:
    replies = await asyncio.gather(*(app.start(request) for _ in range(5)))
    return [reply.status_code for reply in replies]

  assert asyncio.run(many()) == [201, 201, 429, 429, 429] and len(app.sessions) == 2


@pytest.mark.parametrize("error", [live_sessions.refusal()(1006), OSError("broken pipe")])
def test_a_client_that_is_gone_is_no_error_and_leaves_its_place(loaded, monkeypatch, error) -> None:
  monkeypatch.setattr(model_app, "Stepper", lambda loaded: None)
  guard = Guard(token=TOKEN)

  async def nothing() -> None: ...

  async def gone() -> None:
    raise error

  socket = types.SimpleNamespace(
    headers={"host": live_sessions.HOST},
    query_params={"token": TOKEN},
    accept=nothing,
    receive=gone,
  )
  asyncio.run(model_app.ModelApp(loaded, guard).stream(socket))
  assert guard.clients == 0


def test_the_client_of_the_documentation_speaks_the_same_format() -> None:
  code = DOCS.read_text().partition("```python client.py\n")[2].partition("```")[0]
  assert len(code.splitlines()) <= 55
  names = {"__name__": "client"}
  exec(code, names)
  arrays = {"pixels": frames(0)[0], "x": np.arange(3, dtype=np.float32)}
  for write, read in ((names["pack"], unpack), (pack, names["unpack"])):
    header, found = read(write({"is_first": True}, arrays))
    assert header["is_first"] is True
    for name, array in arrays.items():
      np.testing.assert_array_equal(found[name], array)
