"""Print the most likely classes of an image or a video.

  perceiver-stream classify CAT.jpg --model=imagenet_fourier.pystate --labels=imagenet.txt
  perceiver-stream classify MY.mp4 --model=perceiver_classifier/nano --rate_hz=2

--model is a file of weights (DeepMind's pickle or ours), a Hugging Face folder, the folder of a
run, or a name of the zoo (random weights, with a warning). The input is the centre of each image,
224/256 of the shorter side, as in the released code. Probabilities of a video are the mean over its
ticks. --labels is a text file with one class per line; without it, classes are numbers.
"""

from perceiver_stream import inference, streams
from perceiver_stream.inference import classification
from perceiver_stream.inference.cli import readable_errors
from perceiver_stream.utils.options import make_parser


def main() -> None:
  """Runs the command."""
  parser = make_parser(__doc__)
  parser.add_argument("input", help="an image, a video, or a folder of either")
  parser.add_argument("--model", required=True, help="weights, folder of a run, or name of the zoo")
  parser.add_argument("--labels", default="", help="text file with the name of a class per line")
  parser.add_argument("--top", type=int, default=5, help="number of classes to print")
  parser.add_argument(
    "--rate_hz", type=float, default=1.0, help="frames per second of a video to classify"
  )
  parser.add_argument("--max_ticks", type=int, default=0, help="ticks of a video; 0: all")
  args = parser.parse_args()
  with readable_errors():
    loaded = inference.load(args.model)
    height, width = classification.size_to_read(loaded)
    stream = streams.video.Config(
      path=args.input,
      height=height,
      width=width,
      rate_hz=args.rate_hz,
      audio_rate_hz=0,
      max_ticks=args.max_ticks,
    )
    names = classification.read_names(args.labels, loaded.model.config.num_classes)
    found = classification.classify(loaded, streams.open_rows(stream)[0])
  print(f"{args.input}, by {loaded.about}:")
  for name, share in classification.top(found, names, args.top):
    print(f"{100 * share:6.2f} %  {name}")
