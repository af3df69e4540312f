"""Files with the right names and wrong shapes, and configs of huge sizes: ValueError, and no memory."""

import dataclasses
import json
import re

import numpy as np
import pytest

from perceiver_stream import zoo
from perceiver_stream.files import codec
from perceiver_stream.models.mapping import published_names
from perceiver_stream.zoo import clip_encoders, configs, point_trackers

SHAPES = ((), (3,), (2, 3, 5), (1,) * 6, *((0,) * n for n in range(1, 6)))
TORCH = {  # of TAPNext and TAPIR, whose files are brought to other names first
  "blocks.0.ssm_block.temporal_pre_norm.scale": (16,),
  "blocks.0.ssm_block.recurrent_block.rg_lru.a_gate.w": (2, 8, 8),
  "blocks.0.vit_block.self_attention.in_proj_weight": (48, 16),
  "blocks.0.vit_block.self_attention.in_proj_bias": (48,),
  "blocks.0.vit_block.self_attention.out_proj.weight": (16, 16),
  "blocks.0.vit_block.mlp.0.weight": (32, 16),
  "lin_proj.weight": (16, 3, 8, 8),
  "image_pos_emb": (1, 4, 16),
  "coordinate_head.6.weight": (32, 12),
  "torch_pips_mixer.linear.weight": (16, 535),
  "resnet_torch.initial_conv.weight": (4, 3, 7, 7),
}


def shapes_of(name):
  """Returns the arrays' shapes in a published file of a nano model."""
  room = point_trackers if name in point_trackers.names() else clip_encoders
  config = room.config(name)
  known, made = room.family(config), room.build(config)
  template = room.template(made)
  tree = template if room is point_trackers else clip_encoders.merged(*template)
  return {p.name: p.shape for p in published_names(tree, known.rules(config)).values()}


def detectors(name):
  """Returns functions of a file's arrays that return a found model; all of them for ""."""
  trackers = [lambda x, f=f: f.detect(f.prepare(x)) for f in point_trackers.FAMILIES.values()]
  clips = {n: f.detect for n, f in clip_encoders.FAMILIES.items() if f.detect}
  own = clips.get(name.split("/")[0])
  return [own] if own else [*trackers, *([] if name else clips.values())]


def check(flat, name):
  """Returns whether a model is found whose sizes pass; others must raise ValueError."""
  for detect in detectors(name):
    if found := detect(flat):
      try:
        configs.check_sizes(found.config, "x")
        return True
      except ValueError as error:
        assert str(error).startswith("x")
  return False


NANO = [  # of families with published files
  name
  for room in (clip_encoders, point_trackers)
  for name in room.names()
  if name.endswith("/nano") and room.FAMILIES[name.split("/")[0]].detect
]


@pytest.mark.parametrize("name", [*NANO, "torch"])
def test_hostile_shapes_are_refused_or_detected(name):
  shapes = TORCH if name == "torch" else shapes_of(name)
  plain = {n: np.zeros(shape, np.float32) for n, shape in shapes.items()}
  assert check(plain, name)
  for shape in SHAPES:
    check(dict.fromkeys(plain, np.zeros(shape, np.float32)), "")
  kinds = {re.sub(r"\d+", "0", n): n for n in sorted(plain, reverse=True)}  # one of each kind
  for kind in kinds.values():
    for shape in ((), (3,), (0,) * len(shapes[kind])):
      check({**plain, kind: np.zeros(shape, np.float32)}, name)


@pytest.mark.parametrize(
  "name, changes",
  [
    ("vjepa/nano", {"num_frames": 16, "height": 512, "width": 512, "patch": 1, "dim": 4096}),
    ("tapnext/nano", {"table": (2**15, 2**15)}),
    ("tapnext/base", {"table": (2**10, 2**10)}),
    ("tapir/nano", {"initial_size": (2**18, 2**18)}),
    ("tapir/nano", {"num_iterations": 2**20}),
  ],
)
def test_small_configs_of_large_models_are_refused(name, changes):
  room = point_trackers if name in point_trackers.names() else clip_encoders
  config = dataclasses.replace(room.config(name), **changes)
  with pytest.raises(ValueError, match=r"x: refused: (images|tables|\d+ layers)"):
    configs.from_json(json.dumps(codec.to_dict(config)), "x")


@pytest.mark.parametrize("room", [zoo, clip_encoders, point_trackers], ids=lambda r: r.__name__)
def test_all_named_models_are_small_enough(room):
  for name in room.names():
    configs.check_sizes(room.config(name), name)
