"""List all models, encoders of clips and trackers: size, weights, inputs.

  perceiver-stream models
  perceiver-stream models moog stream_perceiver/tiny
  perceiver-stream models --json

`state` is the size of the recurrent state of one stream; "clips" stands for encoders that are not
causal and read whole clips only (`zoo.clip_encoders`). That of trackers is for 64 slots. `weights` is "bundled" with the package,
"released file" (`perceiver_stream.load` reads the published file), or "none". `released` is "yes"
if tests compare the architecture with the released code, "no" if they do not, "ours" if there is
none. Nothing is downloaded and no weights are created: sizes are computed from shapes, in about a
second each.
"""

import dataclasses
import json
from collections.abc import Sequence

from perceiver_stream import zoo
from perceiver_stream.inference.cli import readable_errors
from perceiver_stream.utils.options import make_parser
from perceiver_stream.utils.suggest import check_choice
from perceiver_stream.zoo.summary import Summary, summarize

ROW = "{:<36}{:>12}{:>12}  {:<15}{:<10}{}"
HEADER = ROW.format("name", "parameters", "state", "weights", "released", "inputs")


def main() -> None:
  """Runs the command."""
  parser = make_parser(__doc__)
  parser.add_argument("names", nargs="*", help="models or families; default: all")
  parser.add_argument("--json", action="store_true", help="print a JSON list instead of a table")
  args = parser.parse_args()
  with readable_errors():
    names = select(args.names)
    if args.json:
      print(json.dumps([dataclasses.asdict(summarize(name)) for name in names], indent=2))
      return
    print(HEADER)
    for name in names:
      print(row(summarize(name)), flush=True)


def select(wanted: Sequence[str]) -> list[str]:
  """Returns the names of the requested models, or of all models of requested families.

  >>> select(["trecvit", "moog/nano"])
  ['moog/nano', 'trecvit/nano', 'trecvit/tiny']

  Raises:
    ValueError: There is no such model or family; the message has the nearest name.
  """
  rooms = (zoo, zoo.clip_encoders, zoo.point_trackers)
  known = [name for room in rooms for name in room.names()]
  for name in wanted:
    check_choice("model", name, [*(f for room in rooms for f in room.FAMILIES), *known])
  return [n for n in known if not wanted or {n, n.split("/")[0]} & set(wanted)]


def row(of: Summary) -> str:
  """Returns the table row of a model."""
  inputs = ", ".join(f"{name} {'×'.join(map(str, shape))}" for name, shape in of.inputs.items())
  state = "clips" if of.state_bytes is None else f"{of.state_bytes / 1024:,.0f} KiB"
  return ROW.format(
    of.name, f"{of.parameters:,}", state, of.weights, of.equals_released, inputs
  ).rstrip()
