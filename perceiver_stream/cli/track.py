"""Track points through a video of any length with a frozen model.

  perceiver-stream track MY.mp4 --grid 8 --model=stream_perceiver/tiny_world
  perceiver-stream track MY.mp4 --points "0,120.5,80;25,300,42" --model=lk --output=tracks
  perceiver-stream track MY.mp4 --points=queries.csv --model=lk --rerun=tracks.rrd
  perceiver-stream track DAVIS/JPEGImages/480p/bear --grid=8 --model=lk --rate_hz=24

The video is a file, or numbered images of one folder: the folder, or a pattern such as
"bear/*.jpg".

A query is frame,x,y: frame N is frame N of the file, counted from 0, whatever its frame rate; x (to
the right) and y (down) are in pixels of the video, whose first pixel has its centre at 0.5,0.5. A
CSV file has one query per row. --grid N tracks N x N points from the first frame. A point is
tracked forwards from its query while the video is read. --rate_hz resamples the video; frame N is
then tick N. Images have no time stamps: they are read at 25 per second, or --rate_hz.

--output then contains overlay.mp4, of the video's size (a disc marks a visible point, a ring an
occluded one, with its trail); tracks.npz with tracks [N, T, 2] (x, y), NaN before the query,
visible [N, T], certainty [N, T], queries [N, 3] (frame, x, y), time_s [T]; and tracks.csv, the same
in rows. Memory grows only with the tracks. ctrl-C stops early and writes the tracks so far.

--model is the name of bundled weights (moog/tiny_world, stream_perceiver/tiny_motion,
stream_perceiver/tiny_positions, stream_perceiver/tiny_world), a file of `perceiver-stream export`, or
a method without learning: static, lk_gray (lk), dis_finest0 (dis), template, dis_template,
lk_template. Other names of the zoo have random weights.
"""

import argparse

from perceiver_stream import streams
from perceiver_stream.inference import track_videos, tracking
from perceiver_stream.inference.cli import readable_errors
from perceiver_stream.inference.flow_videos import writable_folder
from perceiver_stream.streams import probe
from perceiver_stream.training.signals import stop_on_signals
from perceiver_stream.utils.options import make_parser


def track(args: argparse.Namespace) -> None:
  """Tracks the points given by the arguments."""
  about = probe.probe(args.video)
  if about.is_picture:
    raise ValueError(f"{args.video} is one image; give a video.")
  size = about.height, about.width
  grid = args.points is None
  queries = (
    track_videos.grid_points(args.grid, size) if grid else track_videos.read_points(args.points)
  )
  start, method = tracking.make_tracker(args.model, len(queries))
  fields = {"height": size[0], "width": size[1], "crop": "squash", "max_ticks": args.max_ticks}
  config = streams.video.picture_by_picture(args.video, args.rate_hz, **fields)
  ticks = streams.open_rows(config)[0]
  options = track_videos.Options(
    trail=args.trail, zoom=args.zoom, rerun=args.rerun, tensorboard=args.tensorboard
  )
  folder = writable_folder(args.output)
  with stop_on_signals() as stop:
    done = track_videos.write_tracks(folder, ticks, queries, start, options, lambda: bool(stop))
  print(f"{folder}: overlay.mp4, tracks.npz, tracks.csv. {method}.")
  print(f"{len(queries)} points, {done.ticks} frames, {done.seen:.0%} of the positions visible.")


def main() -> None:
  """Runs the command."""
  parser = make_parser(__doc__)
  parser.add_argument("video", help="a file with video, or a folder or pattern of images")
  asked = parser.add_mutually_exclusive_group(required=True)
  asked.add_argument("--points", help='"frame,x,y;frame,x,y", or a CSV file with such rows')
  asked.add_argument("--grid", type=int, help="points along a side, on the first frame")
  parser.add_argument("--model", required=True, help="see above")
  parser.add_argument("--output", default="tracks", help="folder to write to (default: tracks)")
  parser.add_argument(
    "--rerun", default="", help="also write a recording for the Rerun viewer, .rrd"
  )
  parser.add_argument(
    "--tensorboard", default="", help="also write TensorBoard files to this folder"
  )
  parser.add_argument(
    "--rate_hz", type=float, default=0.0, help="frames per second; 0: those of the video"
  )
  parser.add_argument("--max_ticks", type=int, default=0, help="frames to process; 0: all")
  parser.add_argument("--trail", type=int, default=12, help="length of trails in frames")
  parser.add_argument("--zoom", type=int, default=1, help="enlargement of the video")
  args = parser.parse_args()
  with readable_errors():
    track(args)
