"""Make a looped animation of a video: input, prediction and tracked points.

  perceiver-stream animate runs/demo MY.mp4 --output=demo.webp
  perceiver-stream animate runs/demo MY.mp4 --output=demo.webp --start_s=6 --seconds=4 --grid=10

Next to each frame is the prediction that the frozen model made --displacement ticks earlier. Points
of a --grid on the first frame are tracked by --tracker, a name or a file as in `perceiver-stream
track`. The animation is a WebP image, which browsers and GitHub display.
"""

from perceiver_stream import inference
from perceiver_stream.inference import animation, tracking
from perceiver_stream.inference.cli import readable_errors, stream_for
from perceiver_stream.inference.track_videos import grid_points
from perceiver_stream.utils.options import add_model, make_parser


def main() -> None:
  """Runs the command."""
  parser = make_parser(__doc__)
  add_model(parser)
  parser.add_argument("video", help="a file with video, a folder of them, or a pattern")
  parser.add_argument("--output", required=True, help="image to write, for instance demo.webp")
  parser.add_argument("--displacement", type=int, default=4, help="ticks ahead (default: 4)")
  parser.add_argument("--start_s", type=float, default=0.0, help="start in the video, seconds")
  parser.add_argument("--seconds", type=float, default=4.0, help="length (default: 4)")
  parser.add_argument("--side", type=int, default=256, help="pixels of a panel (default: 256)")
  parser.add_argument("--grid", type=int, default=8, help="points along a side (default: 8)")
  parser.add_argument("--quality", type=int, default=60, help="quality of the image (default: 60)")
  parser.add_argument(
    "--tracker", default="stream_perceiver/tiny_motion", help="model that tracks points"
  )
  args = parser.parse_args()
  with readable_errors():
    names = ("displacement", "start_s", "seconds", "side", "quality")
    options = animation.Options(**{name: getattr(args, name) for name in names})
    options.validate()
    loaded = inference.load(args.model)
    config = stream_for(loaded, args.video)
    queries = grid_points(args.grid, (args.side, args.side))
    start, method = tracking.make_tracker(args.tracker, len(queries))
    ticks = animation.predictions(loaded, config, options)
    frames = animation.animate(ticks, start(queries), options, config.rate_hz)
    animation.write_webp(args.output, frames, config.rate_hz, options.quality)
  print(f"{args.output}: {len(frames)} frames; tracked by {method}.")
