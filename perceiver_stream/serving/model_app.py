"""The web application of a trained model: sessions with a state each, by WebSocket and HTTP."""

import asyncio
import contextlib
import secrets
import threading
import time
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from perceiver_stream.inference.model_loading import Loaded
from perceiver_stream.modalities import NonFinite
from perceiver_stream.models.base import Outputs
from perceiver_stream.serving.camera_frames import decode_jpeg
from perceiver_stream.serving.guard import Guard
from perceiver_stream.serving.learning import with_start
from perceiver_stream.serving.messages import MessageError, pack, unpack
from perceiver_stream.serving.replies import reply, text_reply
from perceiver_stream.serving.watcher import inputs_of
from perceiver_stream.types import IS_FIRST, valid_key
from perceiver_stream.utils.optional import require

MAX_MESSAGE_BYTES = 2**24  # of a client: an image of 2048 x 2048 in bytes, or sound
IDLE_S = 600.0  # after which a session of HTTP that is not used is dropped
_TOO_BIG, _TOO_MANY, _POLICY = 1009, 1013, 1008


class Stepper:
  """A model with the state of one stream; steps of all sessions run one after the other.

  Attributes:
    used_s: When it was last used, seconds of `time.monotonic`.
  """

  _running = threading.Lock()

  def __init__(self, loaded: Loaded):
    self._loaded, self.used_s = loaded, time.monotonic()
    self._state: PyTree = loaded.model.initial_state(loaded.params, 1)
    self._finite = NonFinite(loaded.model.modalities)

  def __call__(self, message: bytes) -> bytes:
    """Returns the answer to a message of a client.

    Raises:
      MessageError: The message cannot be used; the state is as before.
    """
    header, arrays = unpack(message)
    tick = self._tick(header, arrays)
    with self._running:
      outputs, self._state = self._stepped(tick)
      self.used_s = time.monotonic()
    answer = {name: value[0] for name, value in outputs.predictions.items()}
    if header.get("latents") is True:
      answer["latents"] = outputs.latents[0]
    ahead = list(self._loaded.model.displacements)
    return pack({"displacements": ahead}, {n: _plain(x) for n, x in answer.items()})

  def _stepped(self, tick: dict[str, np.ndarray]) -> tuple[Outputs, PyTree]:
    model, params = self._loaded.model, self._loaded.params
    outputs, state = model.step(params, self._state, tick)
    return jax.device_get(outputs), state

  def _tick(
    self, header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]
  ) -> dict[str, np.ndarray]:
    """Returns a tick `[1, ...]` of all inputs; those that the client left out are not valid."""
    specs, sent = input_specs(self._loaded), dict(arrays)
    if "jpeg" in sent and "pixels" in specs:
      if "pixels" in sent:
        raise MessageError("tick: it has both 'jpeg' and 'pixels'; send one of them.")
      shape = specs["pixels"].shape
      sent["pixels"] = decode_jpeg(sent.pop("jpeg").tobytes(), (shape[0], shape[1]))
    if unknown := sorted(set(sent) - set(specs)):
      raise MessageError(f"tick: unknown arrays {unknown}; the model takes {sorted(specs)}.")
    tick: dict[str, Any] = {IS_FIRST: np.bool_(header.get(IS_FIRST) is True)}
    for name, spec in specs.items():
      value = sent.get(name)
      if value is not None and (value.shape != spec.shape or value.dtype != spec.dtype):
        raise MessageError(
          f"tick: {name!r} is {value.dtype} {list(value.shape)}, expected {spec.dtype} "
          f"{list(spec.shape)}."
        )
      tick[name] = np.zeros(spec.shape, spec.dtype) if value is None else value
      tick[valid_key(name)] = np.bool_(value is not None)
    return self._finite(with_start(inputs_of(self._loaded.model, tick)))


def input_specs(loaded: Loaded) -> dict[str, Any]:
  """Returns the specs of a model's inputs by name."""
  return {n: m.spec for n, m in loaded.model.modalities.items() if m.config.use_input}


class ModelApp:
  """Handlers of the application.

  `GET /spec` has the inputs; `WS /stream` is a session while it is open; `POST /sessions` starts one
  that `POST /sessions/ID` steps and `DELETE /sessions/ID` ends; `GET /healthz`.
  """

  def __init__(self, loaded: Loaded, guard: Guard, max_sessions: int = 64):
    """Makes the handlers.

    Args:
      loaded: Model and parameters.
      guard: Decides who may use it, and how many by WebSocket at a time.
      max_sessions: Sessions of HTTP at a time.
    """
    self.loaded, self.guard, self.max_sessions = loaded, guard, max_sessions
    self.sessions: dict[str, Stepper] = {}
    self.refused = 0  # messages that could not be used
    self._starting = 0  # sessions that have their place, but no state yet

  def application(self) -> Any:
    """Returns the ASGI application; needs the extra `live`."""
    fastapi = require("fastapi", "live")
    routing = require("starlette.routing", "live")
    return fastapi.FastAPI(
      openapi_url=None,
      routes=[
        routing.Route("/healthz", self.health),
        routing.Route("/spec", self.spec),
        routing.Route("/sessions", self.start, methods=["POST"]),
        routing.Route("/sessions/{id}", self.step, methods=["POST"]),
        routing.Route("/sessions/{id}", self.end, methods=["DELETE"]),
        routing.WebSocketRoute("/stream", self.stream),
      ],
    )

  async def health(self, request: Any) -> Any:
    """Returns the number of clients and sessions; needs no token."""
    if reason := self.guard.refusal(request, needs_token=False):
      return text_reply(reason, 403)
    counts = {"clients": self.guard.clients, "sessions": len(self.sessions)}
    return reply({"status": "ok", **counts, "refused_messages": self.refused})

  async def spec(self, request: Any) -> Any:
    """Returns the model's inputs and displacements as JSON."""
    if reason := self.guard.refusal(request):
      return text_reply(reason, 403)
    inputs = {
      name: {"shape": list(spec.shape), "dtype": spec.dtype, "rate_hz": spec.rate_hz}
      for name, spec in input_specs(self.loaded).items()
    }
    model = self.loaded.model
    outputs = sorted(n for n, m in model.modalities.items() if m.config.use_output)
    ahead = list(model.displacements)
    about = self.loaded.about
    return reply({"model": about, "inputs": inputs, "outputs": outputs, "displacements": ahead})

  async def start(self, request: Any) -> Any:
    """Starts a session and returns its id."""
    if reason := self.guard.refusal(request):
      return text_reply(reason, 403)
    self._forget_idle()
    if len(self.sessions) + self._starting >= self.max_sessions:
      return text_reply(f"There are {self.max_sessions} sessions, the most; end one.", 429)
    self._starting += 1
    try:
      session = await asyncio.to_thread(Stepper, self.loaded)
    finally:
      self._starting -= 1
    name = secrets.token_urlsafe(12)
    self.sessions[name] = session
    return reply({"session": name}, status=201)

  async def step(self, request: Any) -> Any:
    """Steps a session by the tick in the body, and returns the answer."""
    if reason := self.guard.refusal(request):
      return text_reply(reason, 403)
    self._forget_idle()
    session = self.sessions.get(request.path_params["id"])
    if session is None:
      return text_reply("There is no such session; start one by POST /sessions.", 404)
    session.used_s = time.monotonic()
    body = await _bounded_body(request)
    if body is None:
      return text_reply(f"A tick has at most {MAX_MESSAGE_BYTES} bytes.", 413)
    try:
      answer = await asyncio.to_thread(session, body)
    except MessageError as error:
      self.refused += 1
      return text_reply(str(error), 400)
    return reply(answer, "application/octet-stream")

  async def end(self, request: Any) -> Any:
    """Ends a session."""
    if reason := self.guard.refusal(request):
      return text_reply(reason, 403)
    found = self.sessions.pop(request.path_params["id"], None)
    return reply({}) if found else text_reply("There is no such session.", 404)

  async def stream(self, socket: Any) -> None:
    """Serves one session by WebSocket: a tick in, its answer out; errors are text."""
    if self.guard.refusal(socket):
      await socket.close(_POLICY)  # before it is accepted: HTTP 403
      return
    await socket.accept()
    if not self.guard.enter():
      await socket.close(_TOO_MANY, "There are too many clients.")
      return
    gone = require("starlette.websockets", "live").WebSocketDisconnect
    try:
      with contextlib.suppress(OSError, gone):
        await self._serve(socket)
    finally:
      self.guard.leave()

  async def _serve(self, socket: Any) -> None:
    session = await asyncio.to_thread(Stepper, self.loaded)
    while (message := await socket.receive())["type"] != "websocket.disconnect":
      content = message.get("bytes") or b""
      if len(content) > MAX_MESSAGE_BYTES:
        await socket.close(_TOO_BIG, f"A tick has at most {MAX_MESSAGE_BYTES} bytes.")
        return
      try:
        await socket.send_bytes(await asyncio.to_thread(session, content))
      except MessageError as error:
        self.refused += 1
        await socket.send_json({"error": str(error)})

  def _forget_idle(self) -> None:
    now = time.monotonic()
    for name, session in list(self.sessions.items()):
      if now - session.used_s > IDLE_S:
        del self.sessions[name]


async def _bounded_body(request: Any) -> bytes | None:
  """Returns the body of a request, or None if it is too long; no more is read then."""
  parts, size = [], 0
  async for part in request.stream():
    size += len(part)
    if size > MAX_MESSAGE_BYTES:
      return None
    parts.append(part)
  return b"".join(parts)


def _plain(value: Any) -> np.ndarray:
  """Returns an array as float32 if it is of another float type."""
  array = np.asarray(value)
  return array if array.dtype.name in ("bool", "uint8", "int32") else array.astype(np.float32)
