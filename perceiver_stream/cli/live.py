"""Show a model that watches a camera and learns, on a page in the browser

  perceiver-stream live                           # the browser's camera and microphone
  perceiver-stream live camera:0                  # a camera of this machine
  perceiver-stream live rtsp://CAMERA/stream      # or http, udp, srt, ...
  perceiver-stream live MY.mp4 --loop
  perceiver-stream live MY.mp4 --model=stream_perceiver/tiny_world --no_learning

Prints an address with a token; open it. The page shows the input, what was predicted 1, 4 and 16
ticks ago for now, the errors of that and of copying, flow, tracks (click into the image), latents,
sound, and learning curves. Several pages may be open; all show the same model.

Without --model a model with random weights learns from the stream; fields of its config are flags,
--config.optimizer.learning_rate=1e-4. --model is the folder of a run, a file of weights or a name of
the zoo. Nothing is stored unless --output names a folder: the page's Save button then writes a run
into it. ctrl-C ends it. Needs the extra: pip install "perceiver_stream[live]".
"""

from perceiver_stream import inference
from perceiver_stream.inference.cli import readable_errors
from perceiver_stream.serving import building, running
from perceiver_stream.serving.engine import Engine
from perceiver_stream.serving.guard import Guard
from perceiver_stream.serving.hub import Hub
from perceiver_stream.serving.live_app import MAX_MESSAGE_BYTES, LiveApp
from perceiver_stream.training.flags import CONFIG_HELP, load_config
from perceiver_stream.utils.options import make_parser, parse_known
from perceiver_stream.utils.paths import user_path


def main() -> None:
  """Runs the command."""
  parser = make_parser(__doc__)
  parser.add_argument("source", nargs="?", default="", help="file, camera or address")
  parser.add_argument("--model", default="", help="folder of a run, file of weights or zoo name")
  parser.add_argument("--config", metavar="NAME:VARIANT", default="live:tiny", help=CONFIG_HELP)
  parser.add_argument("--no_learning", action="store_true", help="watch only")
  parser.add_argument("--loop", action="store_true", help="start a file again at its end")
  parser.add_argument("--output", metavar="FOLDER", help="where the page may save checkpoints")
  running.add_address(parser, port=8765, clients=8)
  args, overrides = parse_known(parser)
  with readable_errors():
    running.check_installed()
    config = load_config(args.config, overrides)
    loaded = inference.load(args.model) if args.model else None
    if loaded is not None:
      config = building.experiment_of(loaded, config, args.source)
    config.stream = building.stream_config(args.source, config.stream, loops=args.loop)
    session = building.make_session(config, loaded, learns=not args.no_learning, weights=args.model)
    guard = Guard(args.host, args.max_clients)
    source = building.make_source(config.stream, session.input_specs)
    save_to = user_path(args.output) if args.output else None
    app = LiveApp(Engine(session, source, Hub()), guard, save_to)
    running.run(
      app.application(), args.host, args.port, MAX_MESSAGE_BYTES, f"/?token={guard.token}"
    )
