"""Encode and decode a video with sound; show input and output side by side.

  perceiver-stream autoencode MY.mp4 --model=video_autoencoder.pystate --output=x.mp4
  perceiver-stream autoencode MY.mp4 --model=perceiver_autoencoder/tiny --output=x.mp4 --decode=pixels

--model is a file of weights (DeepMind's pickle or ours), a Hugging Face folder, the folder of a
run, or a name of the zoo (bundled weights, or random ones with a warning). The video is resampled
to the model's size and rates (published: 224×224, 25 Hz, 48 kHz, 16 frames a clip). Each clip is
encoded once, so memory does not grow with the length of the video. The last clip is padded with its
last frame and silence; padding is not written. --decode selects the outputs; others are copied from
the original. PSNR is over all ticks; the range of sound is 2.
"""

from perceiver_stream import inference, streams
from perceiver_stream.inference import autoencoding, classification
from perceiver_stream.inference.cli import readable_errors
from perceiver_stream.streams import base
from perceiver_stream.utils.options import add_video, make_parser, parse


def main() -> None:
  """Runs the command."""
  parser = make_parser(__doc__)
  add_video(parser)
  parser.add_argument("--model", required=True, help="weights, folder of a run, or name of the zoo")
  parser.add_argument("--output", required=True, help="video to write, for instance x.mp4")
  parser.add_argument(
    "--decode", default="pixels,audio,label", help="outputs to decode, with commas"
  )
  parser.add_argument("--rate_hz", type=float, default=0, help="ticks per second (default: 25)")
  parser.add_argument("--max_ticks", type=int, default=0, help="ticks to process; 0: all")
  parser.add_argument("--labels", default="", help="text file with the name of a class per line")
  parser.add_argument("--top", type=int, default=5, help="number of labels to print")
  args = parse(parser, {"--out": "--output", "--outputs": "--decode"})
  with readable_errors():
    loaded = inference.load(args.model)
    config = autoencoding.check_autoencoder(loaded.model)
    names = classification.read_names(args.labels, config.num_classes)
    rate = args.rate_hz or (loaded.config.stream.rate_hz if loaded.config else 0) or 25.0
    stream = streams.video.Config(
      path=args.video,
      height=config.height,
      width=config.width,
      rate_hz=rate,
      audio_rate_hz=round(config.samples // config.num_frames * base.exact_rate(rate)),
      max_ticks=args.max_ticks,
    )
    ticks = streams.open_rows(stream)[0]
    outputs = args.decode.split(",")
    done = autoencoding.autoencode(loaded, ticks, args.output, rate_hz=rate, outputs=outputs)
  print(f"{done.path}: {done.ticks} frames in {done.clips} clips, {loaded.about}.")
  if not done.has_sound:
    print("The video has no sound: it was encoded as silence.")
  for name, scores in done.psnr.items():
    print(f"{name}, PSNR dB: " + ", ".join(f"{who} {db:.2f}" for who, db in scores.items()))
  for name, share in classification.top(done.label, names, args.top) if done.label.size else ():
    print(f"{100 * share:6.2f} %  {name}")
