"""Compute the optical flow of two images, or of a video.

  perceiver-stream flow A.png B.png --model=optical_flow.pystate --output=flow
  perceiver-stream flow A.png B.png --model=perceiver_flow/tiny --output=flow --truth=AB.flo
  perceiver-stream flow MY.mp4 --model=runs/online_tiny --output=flow --max_ticks=100 --save_flows

--model is a file of weights (DeepMind's pickle or ours), a Hugging Face folder, the folder of a
run, or a name of the zoo (bundled weights, or random ones with a warning). Two images give flow.flo
(Middlebury), flow.npz and flow.png; a video gives flow.mp4 with each frame next to its flow. Images
may have any size: large ones are processed in overlapping tiles of the model's size, about half a
minute each on a CPU at the published size. A model trained to predict video gives the motion it
expects next, for a video only.

Flow k of a video is from frame k of the file to the next, whatever its frame rate; flows.npz has
the times of both as time_s [N, 2]. --rate_hz resamples the video to a constant rate; a run's model
uses its training rate. Numbered images of one folder are a video too (the folder, or a pattern such
as "bear/*.jpg"): one tick each, at --rate_hz or 25 Hz.
"""

import argparse

from perceiver_stream import inference, streams
from perceiver_stream.inference import flow_estimation, flow_videos
from perceiver_stream.inference.cli import readable_errors
from perceiver_stream.reporting import flow_files
from perceiver_stream.streams import probe
from perceiver_stream.utils.options import make_parser, parse


def of_pictures(args: argparse.Namespace) -> None:
  """Writes the flow between two images and prints its quality."""
  first, second = map(probe.read_picture, args.inputs)
  truth = flow_files.read_flow(args.truth) if args.truth else None
  folder, loaded = flow_videos.writable_folder(args.output), inference.load(args.model)
  flow = flow_estimation.flow_between(
    loaded.model, loaded.params, first, second, fewest=args.fewest
  )
  flow_videos.write_pair(folder, flow, args.max_speed)
  pair = flow_estimation.Pair(first, second, flow)
  print(f"{folder}: flow.flo, flow.npz, flow.png, {flow.shape[1]}×{flow.shape[0]}, {loaded.about}.")
  print(
    f"First image reconstructed from the second, PSNR dB: {scored(flow_estimation.warp_psnr(pair))}"
  )
  if truth is not None:
    print(f"End-point error, pixels: {scored(flow_estimation.end_point_errors(pair, truth))}")


def of_video(args: argparse.Namespace) -> None:
  """Writes the flow of a video and prints its quality."""
  about = probe.probe(args.inputs[0])
  if about.is_picture:
    raise ValueError(f"{args.inputs[0]} is one image; give two images, or one video.")
  loaded = inference.load(args.model)
  trained = loaded.config.stream.rate_hz if loaded.config else 0.0
  height, width = probe.reduced(about.height, about.width, args.max_side)
  rate = args.rate_hz or (trained if flow_estimation.gives_flow(loaded.model) == "stream" else 0.0)
  fields = {"height": height, "width": width, "max_ticks": args.max_ticks}
  config = streams.video.picture_by_picture(args.inputs[0], rate, **fields)
  pairs = flow_estimation.flows_of(loaded, iter(streams.open_rows(config)[0]), fewest=args.fewest)
  folder = flow_videos.writable_folder(args.output)
  options = {"max_speed": args.max_speed, "save_flows": args.save_flows}
  done = flow_videos.write_video(folder, pairs, **options)
  print(f"{folder / 'flow.mp4'}: {done.count} flows, {width}×{height}, {loaded.about}.")
  how = f"at {config.rate_hz:g} ticks a second" if config.rate_hz else "one tick per frame"
  print(f"Read {how}, {done.step_s:.3f} s apart on average.")
  print(f"Full colour is {done.max_speed:.1f} pixels per tick.")
  print(f"First image reconstructed from the second, PSNR dB: {scored(done.psnr)}")


def scored(scores: dict[str, float]) -> str:
  """Returns the scores as text."""
  return ", ".join(f"{name} {score:.2f}" for name, score in scores.items())


def main() -> None:
  """Runs the command."""
  parser = make_parser(__doc__)
  parser.add_argument("inputs", nargs="+", help="two images, or one video or folder of images")
  parser.add_argument("--model", required=True, help="weights, folder of a run, or name of the zoo")
  parser.add_argument("--output", required=True, help="folder to write to")
  parser.add_argument("--truth", help="true flow of two images, .flo or .npz, for comparison")
  parser.add_argument("--rate_hz", type=float, default=0.0, help="ticks per second; see above")
  parser.add_argument("--max_ticks", type=int, default=0, help="ticks of a video; 0: all")
  parser.add_argument(
    "--max_side", type=int, default=0, help="maximum side of videos; 0: unchanged"
  )
  parser.add_argument(
    "--max_speed", type=float, default=0, help="speed in pixels drawn in full colour"
  )
  parser.add_argument("--fewest", action="store_true", help="fewer tiles than the released colab's")
  parser.add_argument(
    "--save_flows", action="store_true", help="write all flows of a video, flows.npz"
  )
  args = parse(parser, {"--out": "--output"})
  if len(args.inputs) > 2 or (args.truth and len(args.inputs) < 2):
    parser.error("give two images, with or without --truth, or one video without.")
  with readable_errors():
    (of_video if len(args.inputs) == 1 else of_pictures)(args)
