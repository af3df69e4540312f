"""Published weights of online TAPIR: Haiku's names for ours; torch files are brought to them."""

import re

from perceiver_stream.models.mapping import Detected, Flat, Rule, count_of, shape_of
from perceiver_stream.models.tapir.config import Config

_TAPIR = "tapir/~/"
_MIXER = f"{_TAPIR}pips_mlp_mixer"
_COST = {
  "cost": "cost_volume_regression_1",
  "heat": "cost_volume_regression_2",
  "occlusion_0": "cost_volume_occlusion_1",
  "occlusion_1": "cost_volume_occlusion_2",
  "occlusion_2": "occlusion_out",
}


def _numbered(name: str, i: int) -> str:
  """Returns Haiku's name of the i-th module of a name."""
  return f"{name}_{i}" if i else name


def _both(ours: str, theirs: str) -> Rule:
  return Rule(f"{ours}/(w|b)", rf"{theirs}/\1")


def rules(config: Config) -> list[Rule]:
  """Returns the rules of `Tapir`."""
  found = [_both(f"tapir/{ours}", _TAPIR + theirs) for ours, theirs in _COST.items()]
  found += [Rule("tapir/features/stem/w", f"{_TAPIR}resnet/~/initial_conv/w")]
  block = r"tapir/features/group_(\d)_block_(\d)"
  there = rf"{_TAPIR}resnet/~/block_group_\1/~/block_\2/~"
  found += [
    Rule(rf"{block}/norm_(\d)/(scale|offset)", rf"{there}/instancenorm_\3/\4"),
    Rule(rf"{block}/conv_(\d)/w", rf"{there}/conv_\3/w"),
    Rule(rf"{block}/shortcut/w", rf"{there}/shortcut_conv/w"),
  ]
  for i in range(config.num_extra):
    ours, theirs = f"tapir/features/extra_{i}", f"{_TAPIR}extra_convs"
    found += [
      Rule(f"{ours}_norm/(scale|offset)", rf"{theirs}/{_numbered('layer_norm', i)}/\1"),
      _both(f"{ours}_hidden", f"{theirs}/{_numbered('conv2_d', 2 * i)}"),
      _both(f"{ours}_output", f"{theirs}/{_numbered('conv2_d', 2 * i + 1)}"),
    ]
  for i in range(config.num_mixers):
    found += _mixer_block(f"tapir/mixer/block_{i}", f"{_MIXER}/{_numbered('block', i)}")
  return [
    *found,
    _both("tapir/mixer/input", f"{_MIXER}/linear"),
    _both("tapir/mixer/output", f"{_MIXER}/linear_1"),
    Rule("tapir/mixer/norm/scale", f"{_MIXER}/layer_norm/scale"),
  ]


def _mixer_block(ours: str, theirs: str) -> list[Rule]:
  return [
    Rule(f"{ours}/time_norm/scale", f"{theirs}/layer_norm/scale"),
    Rule(f"{ours}/mlp_norm/scale", f"{theirs}/layer_norm_1/scale"),
    Rule(f"{ours}/first_(w|b)", rf"{theirs}/mlp1_up/\1"),
    Rule(f"{ours}/second_(w|b)", rf"{theirs}/mlp1_up_1/\1"),
    _both(f"{ours}/mlp/hidden", f"{theirs}/mlp2_up"),
    _both(f"{ours}/mlp/output", f"{theirs}/mlp2_down"),
  ]


def detect(flat: Flat) -> Detected | None:
  """Returns the model of prepared arrays; None if they have other names.

  Frames are 256×256: a file does not state their size.
  """
  if not any(name.startswith(_MIXER) for name in flat):
    return None
  group = lambda i, dim: shape_of(  # noqa: E731
    flat, rf"{_TAPIR}resnet/~/block_group_{i}/~/block_1/~/conv_1/w", (3, 3, dim, dim)
  )[-1]
  extra = [n for n in flat if re.fullmatch(rf"{_TAPIR}extra_convs/layer_norm(_\d+)?/scale", n)]
  blocks = count_of(flat, rf"{_MIXER}/block_(\d+)/")
  mixer = shape_of(flat, f"{_MIXER}/linear/w", (535, 512))
  high, low = group(1, 128), group(3, 256)
  levels = (mixer[0] - 4 - high - low) // 49
  config = Config(
    stem=group(0, 64),
    high_dim=high,
    middle_dim=group(2, 256),
    low_dim=low,
    num_extra=len(extra),
    mixer_dim=mixer[1],
    num_mixers=max(blocks, 1 if any("/block/" in name for name in flat) else 0),
    pyramid=max(levels - 2, 0),
  )
  return Detected(config, rules, r"(state/.*|counter|step)")


# --- torch files: other names, and other orders of axes ---

_TORCH = (
  (r"resnet_torch\.initial_conv\.weight", f"{_TAPIR}resnet/~/initial_conv/w"),
  (
    r"resnet_torch\.block_groups\.(\d)\.blocks\.(\d)\.proj_conv\.weight",
    rf"{_TAPIR}resnet/~/block_group_\1/~/block_\2/~/shortcut_conv/w",
  ),
  (
    r"resnet_torch\.block_groups\.(\d)\.blocks\.(\d)\.conv_(\d)\.weight",
    rf"{_TAPIR}resnet/~/block_group_\1/~/block_\2/~/conv_\3/w",
  ),
  (
    r"resnet_torch\.block_groups\.(\d)\.blocks\.(\d)\.bn_(\d)\.(weight|bias)",
    rf"{_TAPIR}resnet/~/block_group_\1/~/block_\2/~/instancenorm_\3/\4",
  ),
  (
    r"torch_pips_mixer\.blocks\.(\d+)\.(?:conv_channels_mixer\.)?(\w+)\.(weight|bias)",
    rf"{_MIXER}/block_\1/\2/\3",
  ),
  (r"torch_pips_mixer\.(\w+)\.(weight|bias)", rf"{_MIXER}/\1/\2"),
)
_TORCH_COST: dict[str, str] = dict(
  zip(("hid1", "hid2", "hid3", "hid4", "occ_out"), _COST.values(), strict=True)
)


def prepare(flat: Flat) -> Flat:
  """Returns the arrays of a torch file under Haiku's names and in its layout; others as they are.

  A checkpoint's training state and wrapping are left out.
  """
  if not any(name.startswith("torch_pips_mixer.") for name in flat):
    return {
      name.removeprefix("params/"): value
      for name, value in flat.items()
      if not name.startswith(("state/", "opt_state/"))
    }
  found: Flat = {}
  for name, value in flat.items():
    named = _translated(name)
    is_norm = re.search(r"norm(_\d+)?/(weight|bias)$", named)
    weight, bias = ("scale", "offset") if is_norm else ("w", "b")
    named = re.sub("/weight$", f"/{weight}", re.sub("/bias$", f"/{bias}", named))
    found[named] = value.transpose(_ORDERS[value.ndim]) if value.ndim in _ORDERS else value
  return found


_ORDERS = {2: (1, 0), 3: (2, 1, 0), 4: (2, 3, 1, 0)}  # of the axes of torch in Haiku


def _translated(name: str) -> str:
  if match := re.fullmatch(r"torch_cost_volume_track_mods\.(\w+)\.(weight|bias)", name):
    return f"{_TAPIR}{_TORCH_COST.get(match[1], match[1])}/{match[2]}"
  if match := re.fullmatch(r"extra_convs\.blocks\.(\d+)\.(layer_norm|conv|conv_1)\.(\w+)", name):
    number = int(match[1])
    module = {
      "layer_norm": _numbered("layer_norm", number),
      "conv": _numbered("conv2_d", 2 * number),
      "conv_1": _numbered("conv2_d", 2 * number + 1),
    }
    return f"{_TAPIR}extra_convs/{module[match[2]]}/{match[3]}"
  for theirs, haiku in _TORCH:
    if match := re.fullmatch(theirs, name):
      return (
        match.expand(haiku).replace("/block_0/", "/block/")
        if "mixer" in haiku
        else match.expand(haiku)
      )
  return name
