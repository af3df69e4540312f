"""Names of S3D-G in the released files of MMV, parameters and states of batch norms."""

import re
from collections.abc import Sequence
from typing import Any, get_args

from perceiver_stream.models.i3d.config import Endpoint
from perceiver_stream.models.mapping import Detected, Flat, Rule, shape_of
from perceiver_stream.models.s3d.config import ClipConfig
from perceiver_stream.models.tsm_resnet.weights import NORMS, STATE, norm_of

TOWER = "text_audio_video/visual_module/~/S3D"
_UNITS = {
  "conv_1a": "Conv2d_1a_7x7",
  "conv_2b": "Conv2d_2b_1x1",
  "conv_2c": "Conv2d_2c_3x3",
  r"mixed_(..)/branch([012])_a": r"Mixed_\1/Branch_\2_Conv2d_0a_1x1",
  r"mixed_(..)/branch([12])_b": r"Mixed_\1/Branch_\2_Conv2d_0b_3x3",
  r"mixed_(..)/branch(3)_b": r"Mixed_\1/Branch_\2_Conv2d_0b_1x1",
}


def tower_rules(ours: str, theirs: str, norm: str) -> list[Rule]:
  """Returns the released names of a tower.

  Args:
    ours: Name of our tower.
    theirs: Name of the released tower.
    norm: Name of its batch norms; see `tsm_resnet.weights.norm_of`.
  """
  found = []
  for unit, released in _UNITS.items():
    here, there, last = f"{ours}/{unit}", f"{theirs}/{released}", unit.count("(") + 1
    for i, suffix in enumerate(("", "_1")):
      found.append(Rule(f"{here}/conv_{i}/w", f"{there}/~/conv3_d{suffix}/w"))
      found.append(Rule(rf"{here}/norm_{i}{STATE}", rf"{there}/{norm}{suffix}\{last}"))
    found.append(Rule(rf"{here}/gate/(\w)", rf"{there}/self_gating/\{last}"))
  return found


def rules(config: Any) -> Sequence[Rule]:
  """Returns the names of the tower in a file of MMV."""
  del config
  return tower_rules("tower", TOWER, NORMS[0])


def detect(flat: Flat) -> Detected | None:
  """Returns the tower of clips in a file of MMV; None if it has no S3D-G."""
  stem, start = f"{TOWER}/Conv2d_1a_7x7/~/conv3_d/w", re.escape(TOWER)
  if stem not in flat:
    return None
  frames, _, _, channels, width = shape_of(flat, re.escape(stem), (2, 4, 4, 24, 64))
  blocks = {m[1].lower() for name in flat if (m := re.match(rf"{start}/(Mixed_\d\w)/", name))}
  last = [name for name in get_args(Endpoint) if name in blocks]
  config = ClipConfig(
    divisor=max(64 // max(width, 1), 1),
    space_to_depth=channels != 3,
    final_endpoint=last[-1] if last else "mixed_5c",
  )
  if not config.space_to_depth and frames in (1, 3, 5, 7):
    config.first_frames = frames
  norm = norm_of([n for n in flat if n.startswith(TOWER)])
  named = lambda config: tower_rules("tower", TOWER, norm)  # noqa: E731
  return Detected(config, named, ignore=rf"(?!{start}/).*")
