"""The released TRecViT's own numbers: every stored array of every golden file."""

import dataclasses
import functools

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden import Golden
from published import golden_files, jitted, load_params

from perceiver_stream.core.griffin import GriffinBlock
from perceiver_stream.core.lru import GatedLruConfig
from perceiver_stream.core.recurrent_vit import RecurrentVitConfig
from perceiver_stream.models.mapping import import_params
from perceiver_stream.models.trecvit_classifier import Classifier, Config, weights

FILES = golden_files("trecvit")


def config_of(golden: Golden) -> Config:
  h = golden.hyper
  lru = GatedLruConfig.released(
    h["dim"] * h["state_multiplier"], h["heads"], conv_width=h["conv1d_width"]
  )
  backbone = RecurrentVitConfig(
    dim=h["dim"],
    num_layers=h["depth"],
    num_heads=h["heads"],
    mlp_dim=h["mlp_dim"],
    time_mlp_dim=h["mlp_dim"] if h["use_mlp"] else 0,
    lru=lru,
  )
  return Config(
    height=h["height"],
    width=h["width"],
    patch=h["patch"],
    backbone=backbone,
    rep_dim=h["rep_size"],
    num_classes=h["classes"],
    frames_per_clip=h["frames_per_clip"],
  )


@functools.cache
def setup(path):
  golden = Golden(path)
  config = config_of(golden)
  video = jnp.asarray(golden.arrays["inputs/video"])
  make = lambda: Classifier(config)  # noqa: E731
  params = load_params(make, (video,), weights.rules(config), golden.part("params/"))
  return golden, config, video, params


@pytest.mark.parametrize("path", FILES)
def test_classifier(path):
  golden, config, video, params = setup(path)
  assert sum(x.size for x in jax.tree.leaves(params)) == golden.about["num_params"]
  found = jitted(lambda: Classifier(config), "__call__")(params, video)
  golden.close("outputs/tokens", found.tokens)
  golden.close("outputs/encoded", found.encoded)
  golden.close("outputs/head_input", found.encoded[:, :, 0].reshape(-1, config.backbone.dim))
  golden.close("outputs/pre_logits", found.representation)
  golden.close("outputs/logits", found.logits)
  golden.close("outputs/probs", found.probabilities)


@pytest.mark.parametrize("resets", [False, True], ids=["one recording", "with a reset"])
@pytest.mark.parametrize("path", FILES)
def test_first_recurrent_block_and_its_state(path, resets):
  golden, config, *_ = setup(path)
  b = config.backbone
  x = jnp.swapaxes(jnp.asarray(golden.arrays["inputs/block_input"]), 0, 1)[:, :, None]
  place = golden.arrays["inputs/block_segment_pos_with_reset"].T
  first = jnp.asarray(place == 0) if resets else jnp.arange(len(x))[:, None] == 0
  first = jnp.broadcast_to(first, x.shape[:2])[..., None]

  def run(x, first):
    block = GriffinBlock(b.lru, b.time_mlp_dim, name="block")
    return block(x, first, block.initial_state(x.shape[1], 1))

  transformed = hk.without_apply_rng(hk.transform(run))
  template = jax.eval_shape(transformed.init, jax.random.key(0), x, first)
  start = "params/encoder/residualblock_00/"
  rules = weights.griffin_block("block", "there")
  named = {f"there/{n}": v for n, v in golden.part(start).items()}
  params = import_params(named, template, rules, source="golden")
  y, states = jax.jit(transformed.apply)(params, x, first)
  y = jnp.swapaxes(y[:, :, 0], 0, 1)
  if resets:
    golden.close("outputs/block/y_with_reset_row_1", y)
    return
  golden.close("outputs/block/y", y)
  golden.close("outputs/block/state_rg_lru", states.hidden[-1, :, 0])
  golden.close("outputs/block/state_conv1d", states.seen[-1, :, :, 0])


@pytest.mark.parametrize("path", FILES)
def test_a_file_of_the_release_is_recognised(path):
  golden, config, _, _ = setup(path)
  found = weights.detect(golden.part("params/"))
  assert found is not None
  fields = lambda c: dataclasses.asdict(c.backbone)  # noqa: E731
  ours, theirs = fields(config), fields(found.config)
  for one in (ours, theirs):  # arrays do not tell the range that radii were drawn from
    one["lru"].pop("min_radius")
  assert theirs == ours
  grid = (config.height // config.patch, config.width // config.patch)
  if grid[0] == grid[1]:
    assert (found.config.height, found.config.width) == (config.height, config.width)
  assert found.config.num_classes == config.num_classes
  assert weights.detect({"decoder/cls_head/bias": np.zeros(3)}) is None, "of something else"
