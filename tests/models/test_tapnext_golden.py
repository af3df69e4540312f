"""The released TAPNext's own numbers: every stored array of every golden file, in both flavours."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden import Golden
from published import golden_files, jitted, load_params

from perceiver_stream.core.lru import GatedLruConfig
from perceiver_stream.core.recurrent_vit import RecurrentVitConfig
from perceiver_stream.models.tapnext import Config, TapNext, certainty, weights

FILES = golden_files("tapnext")
RADIUS = {"jax": 6, "torch": 8}  # of visible_and_certain, in the released demos


def config_of(golden: Golden) -> Config:
  h = golden.hyper
  up = golden.arrays["params/backbone/Transformer/encoderblock_0/ssm_block/mlp_block/ffw_up/w"]
  hidden = golden.part("params/backbone/Transformer/encoderblock_0/vit_block/MlpBlock_0/")
  head = golden.arrays["params/coordinate_head/layers_6/kernel"]
  backbone = RecurrentVitConfig(
    dim=h["dim"],
    num_layers=h["depth"],
    num_heads=h["heads"],
    mlp_dim=hidden["Dense_0/kernel"].shape[1],
    time_mlp_dim=up.shape[2],
    lru=GatedLruConfig.released(
      h["lru_dim"], h["heads"], conv_width=golden.about["constants"]["conv1d_width"]
    ),
  )
  size = h["height"], h["width"]
  return Config(
    height=size[0],
    width=size[1],
    patch=h["patch"],
    table=size,
    backbone=backbone,
    bins=head.shape[1] // 2,
    head_dim=head.shape[0],
  )


@functools.cache
def setup(path):
  golden = Golden(path)
  config = config_of(golden)
  a = {name: jnp.asarray(value) for name, value in golden.part("inputs/").items()}
  queries = a["query_points_tyx"][:, :, None]
  args = (a["video"], queries, jnp.ones(queries.shape[:3], bool))
  rules = weights.rules(config)
  params = load_params(lambda: TapNext(config), args, rules, golden.part("params/"))
  hints = (a["video"], a["hints_tyx"], a["hints_valid"])
  return golden, config, params, args, hints


def model(config):
  return jitted(lambda: TapNext(config), "__call__", static=(5,))


def compare(golden, heads, prefix, flavour):
  """Compares the stored arrays of a prefix; positions only where the best bin is clear."""
  stored = golden.part(prefix)
  if "track_logits" in stored:
    golden.close(f"{prefix}track_logits", heads.logits, golden.about["suggested_atol_logits"])
  atol = golden.about["suggested_atol_logits"]
  golden.close(f"{prefix}visible_logits", heads.visible[..., None], atol)
  top = np.sort(heads.logits.reshape(*heads.logits.shape[:-1], 2, -1), axis=-1)[..., -2:]
  margin = (top[..., 1] - top[..., 0]).min(-1)
  clear = margin > 1e-2
  assert clear.mean() > 0.5, "the best bin of most positions must be clear"
  golden.compared.add(f"{prefix}tracks_yx")
  expected = stored["tracks_yx"][clear]
  np.testing.assert_allclose(np.asarray(heads.position)[clear], expected, atol=golden.atol)
  for name in stored:
    if name.startswith("certainty_radius_"):
      radius = int(name.rpartition("_")[2])
      swapped = flavour == "torch"
      sure = certainty(heads.position, heads.logits, radius, swapped=swapped)[..., None]
      golden.close(f"{prefix}{name}", sure)
      others = {n for n in stored if n.startswith("certainty_radius_")} - {name}
      if "visible_and_certain" in stored and (radius == RADIUS[flavour] or not others):
        golden.compared.add(f"{prefix}visible_and_certain")
        product = jax.nn.sigmoid(heads.visible[..., None]) * sure
        decided = np.abs(product - 0.5) > golden.atol
        same = np.asarray(product > 0.5) == stored["visible_and_certain"]
        assert np.all(same[decided])
  return margin


@pytest.mark.parametrize("flavour", ["jax", "torch"])
@pytest.mark.parametrize("path", FILES)
def test_clip(path, flavour):
  golden, config, params, args, hints = setup(path)
  assert sum(x.size for x in jax.tree.leaves(params)) == golden.about["num_params"]
  run = model(dataclasses.replace(config, flavour=flavour))
  *layers, last = run(params, *args, None, 0)[0]
  margin = compare(golden, last, f"outputs_{flavour}/clip/", flavour)
  if flavour == "torch":
    golden.all_compared("outputs_torch/clip")
    return
  golden.close("outputs_jax/argmax_margin", margin, golden.about["suggested_atol_logits"])
  for i, heads in enumerate(layers):
    compare(golden, heads, f"outputs_jax/clip/layer_{i}/", flavour)
  *_, hinted = run(params, *hints, None, 0)[0]
  compare(golden, hinted, "outputs_jax/clip_with_hints/", flavour)
  golden.all_compared("outputs_jax/clip")


@pytest.mark.parametrize("flavour", ["jax", "torch"])
@pytest.mark.parametrize("path", FILES)
def test_frame_by_frame(path, flavour):
  golden, config, params, (video, queries, valid), _ = setup(path)
  config = dataclasses.replace(config, flavour=flavour)
  run, layers, parts = jitted(lambda: TapNext(config), "__call__"), None, []
  for t in range(video.shape[1]):
    found, layers = run(params, video[:, t : t + 1], queries, valid, layers, jnp.int32(t))
    parts.append(found[-1])
  heads = jax.tree.map(lambda *x: jnp.concatenate(x, axis=2), *parts)
  compare(golden, heads, f"outputs_{flavour}/online/", flavour)
  if flavour == "jax":
    hidden = jnp.stack([layer.hidden[:, 0] for layer in layers])
    seen = jnp.stack([layer.seen[:, :, 0] for layer in layers])
    golden.close("outputs_jax/online/state/rg_lru", hidden)
    golden.close("outputs_jax/online/state/conv1d", seen)
  golden.all_compared(f"outputs_{flavour}/online")


@pytest.mark.parametrize("path", FILES)
def test_no_stored_output_is_of_another_kind_than_those_compared(path):
  golden, config, *_ = setup(path)
  known = [f"outputs_{flavour}/{kind}" for flavour in RADIUS for kind in ("clip/", "online/")]
  known += ["outputs_jax/clip_with_hints/", "outputs_jax/argmax_margin"]
  outputs = [name for name in golden.arrays if name.startswith("outputs")]
  assert not [name for name in outputs if not name.startswith(tuple(known))]
  layers = {name.split("/")[2] for name in golden.arrays if "/layer_" in name}
  assert layers == {f"layer_{i}" for i in range(config.backbone.num_layers)}
