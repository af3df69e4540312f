"""The page's server with a small model: ticks, orders, viewers, and everything that must not stop it."""

import os
import pathlib
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import extras
import live_sessions
import numpy as np
import pytest
from jpegs import jpeg, resized_header
from live_sessions import HOST, TOKEN, connect, next_of, receive

from perceiver_stream import inference, zoo
from perceiver_stream.inference.model_loading import Loaded
from perceiver_stream.serving import building, curves
from perceiver_stream.serving.engine import Engine
from perceiver_stream.serving.hub import Hub
from perceiver_stream.serving.live_app import MAX_MESSAGE_BYTES
from perceiver_stream.serving.messages import pack
from perceiver_stream.serving.sources import BrowserSource, FileSource
from perceiver_stream.training.checkpoints import Checkpoints
from perceiver_stream.utils.opencv import opencv

extras.need("fastapi", "uvicorn", "websockets")

SIDE = live_sessions.SIDE


@pytest.fixture(scope="module")
def shared():
  session = live_sessions.make_session()
  yield session
  session.close()


@pytest.fixture
def session(shared):
  """One session for all tests, which compiles once: as at its start, but for what it has learned."""
  shared.reset()
  shared.set_learning(False)
  return shared


@pytest.fixture
def endless(session):
  app, client = live_sessions.application(session, FileSource(live_sessions.balls()))
  with client:
    yield app, client


def resident_mb() -> float:
  pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
  return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


@pytest.mark.slow
def test_predictions_beat_copying_after_500_ticks_and_memory_is_flat(session) -> None:
  session.set_learning(True)
  source = FileSource(live_sessions.balls(max_ticks=500), is_paced=False)
  app, client = live_sessions.application(session, source)
  used = {}
  with client, connect(client) as socket:
    welcome, _ = receive(socket)
    assert welcome["kind"] == "welcome" and welcome["displacements"] == [1, 2]
    while (header := receive(socket)[0])["kind"] != "end":
      socket.send_json({"do": "ready"})
      last = header
      if "tick" in header:
        used.setdefault(header["tick"] // 100, resident_mb())
  assert session.ticks == 500 and source.dropped == 0 and session.learner.progress.updates == 249
  for ahead in (1, 2):
    row = last["scores"][f"pixels@{ahead}"]
    assert row["model_psnr"] > row["copy_psnr"] + 1.5
  assert used[4] < used[2] + 25


def test_a_tick_holds_all_that_the_page_shows(endless) -> None:
  app, client = endless
  with connect(client) as socket:
    seen = {}
    for _ in range(12):
      header, arrays = next_of(socket, "tick")
      seen |= arrays
  assert header["known"] == [True, True] and header["rate_hz"] > 0
  assert seen["input"].shape == (SIDE, SIDE, 3) and seen["predicted"].shape == (2, SIDE, SIDE, 3)
  assert seen["flow"].shape == (SIDE, SIDE, 3) and seen["owners"].shape == (16, 16)
  assert set(header["errors"]["pixels@1"]) >= {"model", "copy", "extrap", "mix"}
  error = np.square((arrays["predicted"][0] - arrays["input"].astype(float)) / 255).mean()
  assert abs(error - header["errors"]["pixels@1"]["model"]) < 1e-3


def test_a_slow_viewer_slows_nobody_and_each_has_the_newest(endless) -> None:
  app, client = endless
  with connect(client) as slow, connect(client) as fast:
    assert next_of(fast, "welcome") and receive(slow)[0]["kind"] == "welcome"
    first = receive(slow)[0]  # is not acknowledged
    ticks = [next_of(fast, "tick")[0]["tick"] for _ in range(25)]
    assert ticks == sorted(set(ticks)) and len(ticks) == 25
    slow.send_json({"do": "ready"})
    later = receive(slow)[0]
    assert later["tick"] >= ticks[-2] > first.get("tick", 0) + 10
    assert client.get("/healthz").json()["viewers"] == 2
  deadline = time.monotonic() + 20
  while client.get("/healthz").json()["viewers"] and time.monotonic() < deadline:
    time.sleep(0.02)
  assert client.get("/healthz").json()["viewers"] == 0 and not app.engine.ended


def test_closing_in_the_middle_of_a_tick_ends_only_that_viewer(endless) -> None:
  app, client = endless
  for _ in range(5):
    with connect(client) as socket:
      receive(socket)
      socket.send_json({"do": "track", "x": 0.5, "y": 0.5})
  with connect(client) as socket:
    before = next_of(socket, "tick")[0]["tick"]
    assert next_of(socket, "tick")[0]["tick"] > before


def test_a_thousand_garbage_messages_are_answered_and_nothing_stops(endless) -> None:
  app, client = endless
  rng = np.random.default_rng(0)
  orders = [
    '{"do":1}',
    "[]",
    "{",
    '{"do":"rate","value":"x"}',
    '{"do":"learn"}',
    '{"do":"track","x":NaN}',
  ]
  with connect(client) as socket:
    receive(socket)
    for i in range(500):
      socket.send_text(orders[i % len(orders)])
      socket.send_bytes(rng.bytes(int(rng.integers(0, 200))) or b"x")
    for _ in range(1000):
      assert next_of(socket, "note")[0]["is_error"]
    assert next_of(socket, "tick")[0]["tick"]
  assert app.refused == 1000 and client.get("/healthz").json()["status"] == "ok"


@pytest.mark.parametrize(
  ("path", "headers"),
  [
    ("/ws", {}),
    ("/ws?token=", {}),
    ("/ws?token=wrong", {}),
    ("/ws?token=%F0%9F%98%80", {}),
    (f"/ws?token={TOKEN}", {"origin": "https://evil.example"}),
    (f"/ws?token={TOKEN}", {"origin": "null"}),
    (f"/ws?token={TOKEN}", {"host": "evil.example"}),
  ],
)
def test_without_token_or_from_another_origin_nothing_opens(endless, path, headers) -> None:
  _, client = endless
  with pytest.raises(live_sessions.refusal()), connect(client, path, **headers):
    pass
  page = path.replace("/ws", "/")
  assert client.get(page, headers=headers).status_code == 403
  assert client.get(page.replace("/", "/report"), headers=headers).status_code == 403


def test_the_page_of_this_origin_opens_and_may_load_nothing_from_elsewhere(endless) -> None:
  _, client = endless
  with connect(client, origin=f"http://{HOST}") as socket:
    assert receive(socket)[0]["kind"] == "welcome"
  page = client.get(f"/?token={TOKEN}")
  assert page.status_code == 200 and "default-src 'none'" in page.headers["content-security-policy"]
  assert TOKEN not in page.text and "//" not in page.text.replace("<!DOCTYPE", "")
  for name in ("live.js", "live.css", "wheel.png"):
    assert client.get(f"/static/{name}").status_code == 200
  for name in ("index.html", "..%2Fengine.py", "nothing.js"):
    assert client.get(f"/static/{name}").status_code == 404


def test_too_many_viewers_and_too_long_messages_are_closed(session) -> None:
  app, client = live_sessions.application(session, FileSource(live_sessions.balls()), clients=1)
  with client:
    with connect(client) as socket:
      receive(socket)
      with connect(client) as other:
        assert other.receive()["code"] == 1013
      socket.send_bytes(bytes(MAX_MESSAGE_BYTES + 1))
      while (message := socket.receive())["type"] == "websocket.send":
        pass
      assert message["code"] == 1009
    assert client.get("/healthz").json()["status"] == "ok"


def camera_message(captured_s: float = 1.5, data: bytes = b"", **header) -> bytes:
  image = np.frombuffer(data or jpeg(SIDE, SIDE), np.uint8)
  return pack({"captured_s": captured_s, "sequence": 7, **header}, {"jpeg": image})


def test_a_browser_sends_its_camera_and_only_one_does(session) -> None:
  source = BrowserSource(session.input_specs, rate_hz=25.0)
  app, client = live_sessions.application(session, source)
  with client, connect(client) as mine, connect(client) as other:
    welcome = receive(mine)[0]
    assert welcome["camera"] == {
      "height": SIDE,
      "width": SIDE,
      "rate_hz": 25,
      "samples": 0,
      "audio_rate_hz": 0,
    }
    for socket, is_on in ((mine, True), (other, False)):
      socket.send_json({"do": "camera", "on": True})
      assert next_of(socket, "camera")[0]["on"] == is_on
    mine.send_bytes(camera_message(12.25))
    assert next_of(mine, "taken")[0]["sequence"] == 7
    header, arrays = next_of(mine, "tick")
    assert header["captured_s"] == 12.25 and header["is_first"]
    assert np.abs(arrays["input"][8, 2].astype(int) - [200, 90, 90]).max() < 8
    for bad in (resized_header(jpeg(), 65000, 65000), jpeg()[:100], b"\0" * 99):
      mine.send_bytes(camera_message(data=bad))
      assert next_of(mine, "note")[0]["is_error"]
    other.send_bytes(camera_message())
    assert "not expected" in next_of(other, "note")[0]["text"]
    mine.send_json({"do": "camera", "on": False})
    next_of(mine, "camera")
    mine.send_bytes(camera_message())  # that was encoded when the page stopped
    assert "not expected" in next_of(mine, "note")[0]["text"]
    other.send_json({"do": "camera", "on": True})
    assert next_of(other, "camera")[0]["on"]
    other.send_bytes(camera_message(13.0))
    header = next_of(other, "tick")[0]
    while header["captured_s"] != 13.0:
      header = next_of(other, "tick")[0]
    assert header["is_first"]  # another camera


def test_a_point_follows_a_moving_thing_and_is_dropped(session) -> None:
  """A bright square moves over noise, one pixel a tick."""
  source = BrowserSource(session.input_specs, rate_hz=25.0)
  app, client = live_sessions.application(session, source)
  ground = np.random.default_rng(0).integers(60, 120, (SIDE, SIDE, 3), dtype=np.uint8)
  thing = np.random.default_rng(1).integers(120, 255, (6, 6, 3), dtype=np.uint8)
  with client, connect(client) as socket:
    socket.send_json({"do": "camera", "on": True})
    for step in range(8):
      image = ground.copy()
      image[5:11, 1 + step : 7 + step] = thing
      data = opencv().imencode(".jpg", image[..., ::-1], [1, 98])[1].tobytes()
      if step == 2:
        socket.send_json({"do": "track", "x": (4 + step) / SIDE, "y": 8 / SIDE})
      socket.send_bytes(camera_message(step, data))
      header = next_of(socket, "tick")[0]
      while header["captured_s"] != step:
        header = next_of(socket, "tick")[0]
    (point,) = header["points"]
    assert abs(point["x"] * SIDE - 11) < 2 and abs(point["y"] * SIDE - 8) < 2
    socket.send_json({"do": "drop", "id": point["id"]})
    socket.send_bytes(camera_message(99.0, data))
    while header["captured_s"] != 99.0:
      header = next_of(socket, "tick")[0]
    assert header["points"] == []


def test_orders_change_the_session_and_impossible_ones_are_explained(session, tmp_path) -> None:
  source = FileSource(live_sessions.balls())
  app, client = live_sessions.application(session, source, save_to=tmp_path)
  with client, connect(client) as socket:
    for order in ({"do": "learn", "on": True}, {"do": "rate", "value": 1e-4}, {"do": "reset"}):
      socket.send_json(order)
    while not next_of(socket, "tick")[0]["is_learning"]:
      pass
    while next_of(socket, "tick")[0]["learning_rate"] != 1e-4:
      pass
    for order, reason in [
      ({"do": "rate", "value": 7}, "above 0, at most 1"),
      ({"do": "track", "x": 2, "y": 0.5}, "outside the image"),
      ({"do": "track", "x": 0.5, "y": 0.5, "tick": "1"}, "'tick' must be of type int"),
      ({"do": "camera", "on": True}, "no camera is used"),
    ]:
      socket.send_json(order)
      assert reason in next_of(socket, "note")[0]["text"]
    socket.send_json({"do": "save"})
    text = next_of(socket, "note")[0]["text"]
    report = client.get(f"/report?token={TOKEN}")
  assert "Learning curves" in report.text and "report.html" in report.headers["content-disposition"]
  (run,) = tmp_path.iterdir()
  assert str(run) in text
  loaded = inference.load(run)
  for name, value in session.watcher.params.items():
    for key, array in value.items():
      assert loaded.params[name][key].shape == array.shape
  assert loaded.config is not None and (run / "metrics.jsonl").stat().st_size


def test_reports_and_saving_do_not_hold_up_the_stream(session, tmp_path, monkeypatch) -> None:
  """The lock of `observe` is free while files are written and the learner is waited for."""
  free = {}

  def watched(owner: object, name: str) -> None:
    run = getattr(owner, name)

    def check(*args: Any, **options: Any) -> Any:
      with ThreadPoolExecutor(1) as other:  # the lock is reentrant
        free[name] = other.submit(session._lock.acquire, blocking=False).result()
        if free[name]:
          other.submit(session._lock.release).result()
      return run(*args, **options)

    monkeypatch.setattr(owner, name, check)

  for owner, name in (
    (curves, "report_html"),
    (curves, "write_log"),
    (session.learner, "trees"),
    (Checkpoints, "save"),
  ):
    watched(owner, name)
  assert "Learning curves" in session.report()
  assert (session.save(tmp_path) / "metrics.jsonl").exists()
  assert free == {"report_html": True, "write_log": True, "trees": True, "save": True}


def test_the_end_of_the_engine_ends_the_thread_of_the_learner(session, monkeypatch) -> None:
  closed = []
  monkeypatch.setattr(session, "close", lambda: closed.append(True))
  engine = Engine(session, FileSource(live_sessions.balls()), Hub())
  engine.stop()
  assert closed == [True]


@pytest.mark.parametrize("content", [b"", b"garbage" * 9, None])
def test_a_damaged_file_is_no_model_without_a_tracker(session, tmp_path, content) -> None:
  file = tmp_path / "x.safetensors"
  loaded = Loaded(session.watcher.model, session.watcher.params, None, "nano")
  if content is None:
    zoo.save(file, loaded.model, loaded.params)
    assert zoo.loading.readout_names(file) == []
    assert building._tracker(str(file)) is None and building._tracker(str(tmp_path)) is None
    content = file.read_bytes()[:-9]
  file.write_bytes(content)
  with pytest.raises(ValueError, match="x.safetensors"):
    building._tracker(str(file))


def test_without_a_folder_nothing_is_stored(endless) -> None:
  _, client = endless
  with connect(client) as socket:
    socket.send_json({"do": "save"})
    assert "Nothing is stored: start with --output=FOLDER" in next_of(socket, "note")[0]["text"]


def test_the_end_and_an_error_of_the_source_are_said(session) -> None:
  class Broken(FileSource):
    def ticks(self):
      yield from super().ticks()
      raise OSError("the cable was pulled")

  for kind, why in ((FileSource, "balls has ended"), (Broken, "the cable was pulled")):
    app, client = live_sessions.application(session, kind(live_sessions.balls(3), is_paced=False))
    with client:
      with connect(client) as socket:
        assert why in next_of(socket, "end")[0]["why"]
      with connect(client) as socket:  # also to whom comes later
        assert why in receive(socket)[0]["ended"]
      assert client.get("/healthz").json()["status"] == "ended"
