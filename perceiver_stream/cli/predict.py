"""Write the video, with sound, that a model predicted some ticks ahead.

  perceiver-stream predict runs/online_tiny MY.mp4 --output=out.mp4
  perceiver-stream predict runs/online_tiny MY.mp4 --output=out.mp4 --displacement=16 --beside

Each frame of out.mp4 was predicted --displacement ticks before the time at which it is shown, so
out.mp4 is synchronous with MY.mp4; the first frames have no prediction and are grey. Sound is
synthesised from the predicted log-mel energies: loudness and spectrum are predicted, phase is not.
Frames have the model's size, enlarged to at least 256 pixels; flow is shown in colours. The model
is that of a run, of a file of weights, or a name of the zoo (bundled weights, or random ones with a
warning: an untrained stream_perceiver predicts that nothing will change).
"""

from perceiver_stream import inference
from perceiver_stream.inference.cli import readable_errors, watching
from perceiver_stream.utils.options import add_model, add_video, make_parser, parse


def main() -> None:
  """Runs the command."""
  parser = make_parser(__doc__)
  add_model(parser)
  add_video(parser)
  parser.add_argument("--output", help="video to write, for instance out.mp4 (required)")
  parser.add_argument(
    "--displacement", type=int, help="ticks ahead (default: 4, or the model's longest)"
  )
  parser.add_argument("--beside", action="store_true", help="show the input on the left")
  args = parse(parser, last=True)
  with readable_errors():
    loaded = inference.load(args.model)
    windows, stream = watching(loaded, args.video)
    ahead = args.displacement
    ahead = min(4, max(loaded.model.displacements)) if ahead is None else ahead
    done = inference.predict_video(
      loaded,
      windows,
      args.output,
      displacement=ahead,
      rate_hz=stream.rate_hz,
      beside=args.beside,
    )
  sound = "with sound" if done.has_sound else "silent"
  print(f"{done.path}: {done.ticks} frames, {sound}, {ahead} ticks ahead.")
