"""A small model on moving balls, for tests of what is served."""

import dataclasses
import json
from typing import Any

import numpy as np

from perceiver_stream import streams, zoo
from perceiver_stream.configs import online
from perceiver_stream.serving import building
from perceiver_stream.serving.engine import Engine
from perceiver_stream.serving.guard import Guard
from perceiver_stream.serving.hub import Hub
from perceiver_stream.serving.live_app import LiveApp
from perceiver_stream.serving.messages import unpack
from perceiver_stream.serving.session import Session
from perceiver_stream.training import ExperimentConfig

SIDE = 16
TOKEN = "secret"
HOST = "127.0.0.1"
BASE = f"http://{HOST}"


def balls(max_ticks: int = 0) -> streams.StreamConfig:
  """Returns a stream of balls that move one pixel a tick."""
  return streams.balls.Config(height=SIDE, width=SIDE, max_ticks=max_ticks, num_balls=2)


def experiment() -> ExperimentConfig:
  """Returns an experiment of a nano model that predicts 1 and 2 ticks ahead."""
  config = online.get_config("nano")
  model = dataclasses.replace(zoo.config("stream_perceiver/nano"), displacements=(1, 2))
  objective = dataclasses.replace(config.objective, window=2)
  return dataclasses.replace(config, model=model, stream=balls(), objective=objective)


def make_session(*, learns: bool = True) -> Session:
  """Returns a new session, whose learner misses no window."""
  return building.make_session(experiment(), learns=learns, waits=True)


def application(session: Session, source, *, clients: int = 8, save_to=None) -> tuple[LiveApp, Any]:
  """Returns the app of a session on a source, and a test client that is not started yet."""
  from starlette.testclient import TestClient  # of an extra

  guard = Guard(max_clients=clients, token=TOKEN)
  app = LiveApp(Engine(session, source, Hub()), guard, save_to)
  return app, TestClient(app.application(), base_url=BASE)


def connect(client: Any, path: str = f"/ws?token={TOKEN}", **headers: str) -> Any:
  """Returns a WebSocket of a test client."""
  return client.websocket_connect(f"ws://{HOST}{path}", headers=headers)


def receive(socket: Any) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
  """Returns the next message, a header and arrays; those of text have no arrays."""
  message = socket.receive()
  assert message["type"] == "websocket.send", message
  if message.get("text") is not None:
    return json.loads(message["text"]), {}
  return unpack(message["bytes"])


def next_of(socket: Any, kind: str, most: int = 10_000) -> tuple[dict[str, Any], dict[str, Any]]:
  """Returns the next message of a kind; others are acknowledged and left out."""
  for _ in range(most):
    header, arrays = receive(socket)
    if header["kind"] in ("tick", "ready", "end"):
      socket.send_json({"do": "ready"})
    if header["kind"] == kind:
      return header, arrays
  raise AssertionError(f"no message of kind {kind!r}")


def refusal() -> type[Exception]:
  """Returns the error of a WebSocket that the server did not open."""
  from starlette.websockets import WebSocketDisconnect

  return WebSocketDisconnect
