"""Serve a model to programs by WebSocket and HTTP, one state per session

  perceiver-stream serve stream_perceiver/tiny_world
  perceiver-stream serve runs/online_tiny --port=8766 --max_clients=32

Prints an address with a token, which every client gives. A session starts with a state of its own and
gets ticks (arrays, or a JPEG); each is answered with predictions, and latents if asked for.
docs/live.md has the messages and a client of 40 lines. Nothing is learned or stored. ctrl-C ends it.
Needs the extra: pip install "perceiver_stream[live]".
"""

from perceiver_stream import inference
from perceiver_stream.inference.cli import readable_errors
from perceiver_stream.serving import running
from perceiver_stream.serving.guard import Guard
from perceiver_stream.serving.model_app import MAX_MESSAGE_BYTES, ModelApp
from perceiver_stream.utils.options import add_model, make_parser, parse


def main() -> None:
  """Runs the command."""
  parser = make_parser(__doc__)
  add_model(parser)
  running.add_address(parser, port=8766, clients=16)
  args = parse(parser)
  with readable_errors():
    running.check_installed()
    guard = Guard(args.host, args.max_clients)
    app = ModelApp(inference.load(args.model), guard)
    running.run(
      app.application(),
      args.host,
      args.port,
      MAX_MESSAGE_BYTES,
      f"/?token={guard.token}",
      opens=False,
    )
