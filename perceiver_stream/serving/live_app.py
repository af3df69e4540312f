"""The web application of one session: the page, its WebSocket, the report."""

import asyncio
import contextlib
import pathlib
from collections.abc import Awaitable, Callable
from typing import Any

from perceiver_stream.reporting.images import flow_legend, png_bytes
from perceiver_stream.serving.engine import Engine
from perceiver_stream.serving.guard import Guard
from perceiver_stream.serving.messages import MessageError, parse_object, unpack
from perceiver_stream.serving.replies import reply, text_reply
from perceiver_stream.serving.sources import BrowserSource
from perceiver_stream.utils.optional import require

PAGE = pathlib.Path(__file__).with_name("page")
FILES = {"live.js": "text/javascript", "live.css": "text/css"}
MAX_MESSAGE_BYTES = 2**20  # of a viewer
_TOO_BIG, _TOO_MANY, _POLICY = 1009, 1013, 1008


class LiveApp:
  """Handlers of the application; all viewers watch the one session of the engine."""

  def __init__(self, engine: Engine, guard: Guard, save_to: pathlib.Path | None = None):
    """Makes the handlers.

    Args:
      engine: Runs the session.
      guard: Decides who may use it.
      save_to: Folder for checkpoints; None refuses to save.
    """
    self.engine, self.guard, self.save_to = engine, guard, save_to
    self.refused = 0  # messages that could not be used
    session = engine.session
    self._orders: dict[str, Callable[[dict[str, Any]], str]] = {
      "learn": lambda order: _none(session.set_learning(_of(order, "on", bool))),
      "rate": lambda order: _none(session.set_learning_rate(_number(order, "value"))),
      "reset": lambda order: _none(session.reset()),
      "track": self._track,
      "drop": lambda order: _none(session.drop(_of(order, "id", int))),
      "save": lambda order: self._save(),
    }

  def application(self) -> Any:
    """Returns the ASGI application; needs the extra `live`."""
    fastapi = require("fastapi", "live")
    routing = require("starlette.routing", "live")
    return fastapi.FastAPI(
      openapi_url=None,
      lifespan=self._lifespan,
      routes=[
        routing.Route("/", self.page),
        routing.Route("/static/{name}", self.static),
        routing.Route("/report", self.report),
        routing.Route("/healthz", self.health),
        routing.WebSocketRoute("/ws", self.socket),
      ],
    )

  @contextlib.asynccontextmanager
  async def _lifespan(self, app: Any):
    del app
    self.engine.start()
    yield
    await asyncio.to_thread(self.engine.stop)

  async def page(self, request: Any) -> Any:
    """Returns the page."""
    if reason := self.guard.refusal(request):
      return text_reply(reason, 403)
    return reply((PAGE / "index.html").read_bytes(), "text/html")

  async def static(self, request: Any) -> Any:
    """Returns the script, the style or the colours of the flow."""
    name = request.path_params["name"]
    if reason := self.guard.refusal(request, needs_token=False):
      return text_reply(reason, 403)
    if name == "wheel.png":
      return reply(png_bytes(flow_legend(128)), "image/png")
    if name not in FILES:
      return text_reply("There is no such file.", 404)
    return reply((PAGE / name).read_bytes(), FILES[name])

  async def report(self, request: Any) -> Any:
    """Returns the report so far as a download."""
    if reason := self.guard.refusal(request):
      return text_reply(reason, 403)
    text = await asyncio.to_thread(self.engine.session.report)
    return reply(text.encode(), "text/html", download="report.html")

  async def health(self, request: Any) -> Any:
    """Returns counts of ticks and viewers as JSON; needs no token."""
    if reason := self.guard.refusal(request, needs_token=False):
      return text_reply(reason, 403)
    engine = self.engine
    status = {
      "status": "ended" if engine.ended else "ok",
      "ticks": engine.session.ticks,
      "dropped": engine.source.dropped,
      "viewers": self.guard.clients,
      "refused_messages": self.refused,
    }
    return reply(status)

  async def socket(self, socket: Any) -> None:
    """Serves one viewer until it leaves."""
    if self.guard.refusal(socket):
      await socket.close(_POLICY)  # before it is accepted: HTTP 403
      return
    await socket.accept()
    if not self.guard.enter():
      await socket.close(_TOO_MANY, "There are too many viewers; close one of the others.")
      return
    connection = _Connection(self, socket)
    try:
      await connection.serve()
    finally:
      connection.close()
      self.guard.leave()

  def order(self, order: dict[str, Any]) -> str:
    """Runs what a viewer asks for, and returns a message for it; raises ValueError."""
    do = self._orders.get(str(order.get("do")))
    if do is None:
      raise MessageError(f"message: unknown order; use one of {sorted(self._orders)}.")
    return do(order)

  def _track(self, order: dict[str, Any]) -> str:
    tick = _of(order, "tick", int) if "tick" in order else None
    self.engine.session.track(_number(order, "x"), _number(order, "y"), tick)
    return ""

  def _save(self) -> str:
    if self.save_to is None:
      raise ValueError("Nothing is stored: start with --output=FOLDER to save checkpoints.")
    return f"Saved in {self.engine.session.save(self.save_to)}."


class _Connection:
  """One viewer: what it is shown, and what it sends."""

  def __init__(self, app: LiveApp, socket: Any):
    self._app, self._socket, self._engine = app, socket, app.engine
    self._viewer = app.engine.hub.viewer()
    self._sender = 0  # number of the claim of the camera; 0 without one
    self._ready, self._sending = asyncio.Event(), asyncio.Lock()
    self._ready.set()

  async def serve(self) -> None:
    """Sends messages, and takes those of the viewer, until one of both ends."""
    anyio = require("anyio", "live")
    async with anyio.create_task_group() as group:
      group.start_soon(self._until_gone, self._show, group)
      await self._until_gone(self._listen, group)

  async def _until_gone(self, run: Callable[[], Awaitable[None]], group: Any) -> None:
    """Runs one side of the connection; its end is that of the other."""
    gone = require("starlette.websockets", "live").WebSocketDisconnect
    with contextlib.suppress(OSError, RuntimeError, gone):
      await run()
    group.cancel_scope.cancel()

  def close(self) -> None:
    """Leaves the hub, and releases the camera."""
    self._viewer.close()
    if isinstance(self._engine.source, BrowserSource):
      self._engine.source.release(self)

  async def _show(self) -> None:
    """Sends the newest message whenever the viewer has shown the one before."""
    await self._send("welcome", **self._engine.facts())
    while True:
      await self._ready.wait()
      message = await self._viewer.next()
      self._ready.clear()
      async with self._sending:
        await self._socket.send_bytes(message)

  async def _listen(self) -> None:
    while True:
      message = await self._socket.receive()
      if message["type"] == "websocket.disconnect":
        return
      content = message.get("bytes") or message.get("text") or ""
      if len(content) > MAX_MESSAGE_BYTES:
        await self._socket.close(_TOO_BIG, f"Messages have at most {MAX_MESSAGE_BYTES} bytes.")
        return
      try:
        await self._take(content)
      except MessageError as error:  # of anybody: counted, answered, and nothing more
        self._app.refused += 1
        await self._send("note", text=str(error), is_error=True)
      except (ValueError, OSError, RuntimeError) as error:
        await self._send("note", text=str(error), is_error=True)

  async def _take(self, content: bytes | str) -> None:
    if isinstance(content, bytes):
      await self._camera(content)
      return
    order = parse_object(content)
    if order.get("do") == "ready":
      self._ready.set()
    elif order.get("do") == "camera":
      await self._claim(_of(order, "on", bool))
    elif text := await asyncio.to_thread(self._app.order, order):
      await self._send("note", text=text, is_error=False)

  async def _claim(self, is_on: bool) -> None:
    source = self._engine.source
    if not isinstance(source, BrowserSource):
      raise ValueError(f"The images come from {source.about}; no camera is used.")
    if not is_on:
      source.release(self)
    self._sender = source.claim(self) if is_on else 0
    if is_on and not self._sender:
      await self._send(
        "note", text="Another page sends its camera; stop that first.", is_error=True
      )
    await self._send("camera", on=bool(self._sender))

  async def _camera(self, content: bytes) -> None:
    """Takes an image, and lets the browser send the next one."""
    header, arrays = unpack(content)
    source, sender = self._engine.source, self._sender
    if not isinstance(source, BrowserSource) or not sender:
      raise MessageError("camera: images are not expected from this page.")
    jpeg, pcm = arrays.get("jpeg"), arrays.get("pcm")
    if jpeg is None:
      raise MessageError("camera: the message has no array 'jpeg'.")
    try:
      captured_s = _number(header, "captured_s")
      await asyncio.to_thread(source.put, sender, captured_s, jpeg.tobytes(), pcm)
    finally:
      await self._send(
        "taken", sequence=header.get("sequence") if _is_int(header.get("sequence")) else 0
      )

  async def _send(self, kind: str, **content: Any) -> None:
    async with self._sending:
      await self._socket.send_json({"kind": kind, **content})


def _of(order: dict[str, Any], name: str, kind: type) -> Any:
  """Returns a value of an order; raises MessageError if it has another type."""
  value = order.get(name)
  if type(value) is not kind:
    raise MessageError(f"message: {name!r} must be of type {kind.__name__}.")
  return value


def _number(order: dict[str, Any], name: str) -> float:
  value = order.get(name)
  if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e300:
    raise MessageError(f"message: {name!r} must be a number.")
  return float(value)


def _is_int(value: Any) -> bool:
  return type(value) is int


def _none(result: object) -> str:
  del result
  return ""
