"""Names of the towers in the released files of BraVe and MMV, parameters and states of batch norms."""

import re
from collections.abc import Iterable, Sequence

from perceiver_stream.models.mapping import Detected, Flat, Rule, count_of, shape_of
from perceiver_stream.models.tsm_resnet.config import ClipConfig

STATE = r"((?:/~/(?:mean|var)_ema)?/\w+)"  # of a norm: `/scale`, or `/~/mean_ema/hidden`
NORMS = ("__cross_replica_batch_norm", "_cross_replica_batch_norm", "batch_norm")
# Towers of clips in released files; the first that is found is read.
TOWERS = (
  "narrow_video_embedding/TSMResNetV2",
  "text_audio_video/visual_module/~/TSMResNetV2",
)


def norm_of(flat: Iterable[str]) -> str:
  """Returns the name of batch norms in a file: it depends on the version of Haiku and on an option."""
  parts = {part for name in flat for part in name.split("/")}
  return next((norm for norm in NORMS if norm in parts), NORMS[0])


def video_rules(ours: str, theirs: str, norm: str) -> list[Rule]:
  """Returns the released names of a tower of clips.

  Args:
    ours: Name of our tower.
    theirs: Name of the released tower.
    norm: Name of its batch norms; see `norm_of`.
  """
  unit = rf"{theirs}/tsm_resnet_unit_\1/block_\2"
  return [
    Rule(f"{ours}/stem/w", f"{theirs}/tsm_resnet_stem/w"),
    *_rules(ours, theirs, unit, "", norm),
  ]


def audio_rules(ours: str, theirs: str, norm: str) -> list[Rule]:
  """Returns the released names of a tower of spectrograms; see `video_rules`."""
  group = rf"{theirs}/~/block_group_\1/block_\2"
  stem = Rule(f"{ours}/stem/w", f"{theirs}/~/initial_conv/w")
  return [stem, *_rules(ours, theirs, group, "/~", norm)]


def _rules(ours: str, theirs: str, block: str, made_in: str, norm: str) -> list[Rule]:
  here = rf"{ours}/stage_(\d+)_block_(\d+)"
  return [
    Rule(rf"{ours}/norm{STATE}", rf"{theirs}/{norm}\1"),
    Rule(rf"{here}/norm_0{STATE}", rf"{block}/{norm}\3"),
    Rule(rf"{here}/norm_(\d+){STATE}", rf"{block}/{norm}_\3\4"),
    Rule(rf"{here}/conv_(\d)/w", rf"{block}{made_in}/conv_\3/w"),
    Rule(rf"{here}/shortcut/w", rf"{block}{made_in}/shortcut_conv/w"),
  ]


def rules(config: ClipConfig) -> Sequence[Rule]:
  """Returns the names of the narrow tower in a file of BraVe."""
  del config
  return video_rules("tower", TOWERS[0], "batch_norm")


def detect(flat: Flat) -> Detected | None:
  """Returns the tower of clips in a file of BraVe (the narrow one) or of MMV; None if it has none."""
  tower = next((t for t in TOWERS if f"{t}/tsm_resnet_stem/w" in flat), None)
  if tower is None:
    return None
  start, norm = re.escape(tower), norm_of([n for n in flat if n.startswith(tower)])
  stem = shape_of(flat, f"{start}/tsm_resnet_stem/w", (7, 7, 3, 64))[-1]
  num = count_of(flat, rf"{start}/tsm_resnet_unit_(\d+)/")
  unit = rf"{start}/tsm_resnet_unit_{{}}/block_"
  channels = tuple(
    shape_of(flat, unit.format(i) + "0/conv_2/w", (1, 1, 1, 1))[-1] for i in range(num)
  )
  blocks = tuple(count_of(flat, unit.format(i) + r"(\d+)/") for i in range(num))
  inner = shape_of(flat, unit.format(0) + "0/conv_0/w", (1, 1, 1, 1))[-1]
  config = ClipConfig(
    stem_channels=stem,
    stage_channels=channels,
    stage_blocks=blocks,
    stage_strides=(1, *[2] * (num - 1)),
    bottleneck=max(1, channels[0] // max(inner, 1)) if channels else 4,
  )
  found = lambda config: video_rules("tower", tower, norm)  # noqa: E731
  return Detected(config, found, ignore=rf"(?!{start}/).*")
