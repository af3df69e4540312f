"""Published weights of I3D: variables of the released TensorFlow checkpoints."""

import functools
import re
from typing import get_args

from perceiver_stream.models.i3d.config import Config, Endpoint
from perceiver_stream.models.mapping import Detected, Flat, Rule, shape_of

SCOPES = ("RGB/inception_i3d/", "Flow/inception_i3d/")
_UNITS = {
  "conv_1a": "Conv3d_1a_7x7",
  "conv_2b": "Conv3d_2b_1x1",
  "conv_2c": "Conv3d_2c_3x3",
  # One name of the release is irregular.
  "mixed_5b/branch2_b": "Mixed_5b/Branch_2/Conv3d_0a_3x3",
  r"mixed_(..)/branch(\d)_a": r"Mixed_\1/Branch_\2/Conv3d_0a_1x1",
  r"mixed_(..)/branch([12])_b": r"Mixed_\1/Branch_\2/Conv3d_0b_3x3",
  r"mixed_(..)/branch(3)_b": r"Mixed_\1/Branch_\2/Conv3d_0b_1x1",
}


def rules(config: Config, scope: str | None = None, flat_norms: bool = True) -> list[Rule]:
  """Returns the names in a checkpoint.

  Args:
    config: Config of the model; its channels determine the scope.
    scope: Prefix of the names; default: that of the ImageNet checkpoints.
    flat_norms: If False, arrays of norms are `[1, 1, 1, 1, C]`, as in the Kinetics-600 checkpoint.
  """
  scope = SCOPES[config.channels == 2] if scope is None else scope
  shape = (lambda s: s) if flat_norms else (lambda s: (1, 1, 1, 1, *s))
  found = []
  for ours, theirs in _UNITS.items():
    theirs = scope + theirs
    found.append(Rule(f"i3d/{ours}/conv/w", f"{theirs}/conv_3d/w"))
    for leaf, name in (
      ("offset", "beta"),
      ("mean", "moving_mean"),
      ("variance", "moving_variance"),
    ):
      found.append(Rule(f"i3d/{ours}/norm/{leaf}", f"{theirs}/batch_norm/{name}", shape))
  classifier = f"{scope}Logits/Conv3d_0c_1x1/conv_3d"
  return [
    *found,
    Rule("i3d/classifier/w", f"{classifier}/w", lambda s: (1, 1, 1, *s)),
    Rule("i3d/classifier/b", f"{classifier}/b"),
  ]


def detect(flat: Flat) -> Detected | None:
  """Returns the model of a checkpoint's variables; None if they are not of I3D."""
  stem = "Conv3d_1a_7x7/conv_3d/w"
  scope = next((s for s in (*SCOPES, "") if s + stem in flat), None)
  if scope is None:
    return None
  weight = shape_of(flat, re.escape(scope + stem), (7, 7, 7, 3, 64))
  beta = flat.get(f"{scope}Conv3d_1a_7x7/batch_norm/beta")
  classes = shape_of(flat, re.escape(f"{scope}Logits/Conv3d_0c_1x1/conv_3d/b"), (400,))[0]
  blocks = {m[1].lower() for name in flat if (m := re.match(rf"{scope}(Mixed_\d\w)/", name))}
  last = [name for name in get_args(Endpoint) if name in blocks]
  config = Config(
    final_endpoint=last[-1] if last else "mixed_5c",
    channels=weight[3],
    divisor=max(64 // max(weight[4], 1), 1),
    num_classes=classes,
  )
  flat_norms = beta is None or len(beta.shape) == 1
  named = functools.partial(rules, scope=scope, flat_norms=flat_norms)
  return Detected(config, named, r".*/Momentum|global_step")
