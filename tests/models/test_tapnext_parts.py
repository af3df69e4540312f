"""Parts of TAPNext against closed forms: its loss, its tables, and torch's names and layout."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_stream.models.mapping import export_params
from perceiver_stream.models.tapnext import Config, weights
from perceiver_stream.models.tapnext.heads import Heads, certainty, soft_position
from perceiver_stream.models.tapnext.loss import tracking_loss
from perceiver_stream.models.tapnext.tables import read_table, resize_grid, sincos_table
from perceiver_stream.zoo import point_trackers

RNG = np.random.default_rng(0)


def test_the_loss_is_its_three_parts():
  bins = 6
  logits = RNG.normal(size=(2, 1, 3, 2 * bins)).astype(np.float32)
  position = RNG.uniform(0, bins, (2, 1, 3, 2)).astype(np.float32)
  shown = RNG.normal(size=(2, 1, 3)).astype(np.float32)
  targets = RNG.uniform(-1, bins + 1, position.shape).astype(np.float32)
  visible, counts = RNG.uniform(size=(2, 2, 1, 3)) < 0.7
  found = tracking_loss(Heads(*map(jnp.asarray, (position, logits, shown))),
                        *map(jnp.asarray, (targets, visible, counts)))  # fmt: skip
  away = np.linalg.norm(position - np.clip(targets, 0, bins - 1), axis=-1)
  huber = np.where(away < 1, away**2 / 2, away - 0.5)[visible & counts].mean()
  each = logits.reshape(2, 1, 3, 2, bins)
  log = each - np.log(np.exp(each).sum(-1, keepdims=True))
  best = np.round(np.clip(targets - 0.5, 0, bins - 1)).astype(int)
  entropy = -np.take_along_axis(log, best[..., None], -1).sum((-1, -2))[counts].mean()
  binary = np.log1p(np.exp(-np.where(visible, shown, -shown)))[counts].mean()
  np.testing.assert_allclose(found, 0.1 * huber + entropy + binary, rtol=1e-5)


def test_a_sharp_peak_is_its_bin_and_certain():
  logits = np.zeros((2, 40), np.float32)
  logits[:, 7] = logits[:, 20 + 11] = 40.0
  position = soft_position(jnp.asarray(logits))
  np.testing.assert_allclose(position, [[7.5, 11.5]] * 2, atol=1e-5)
  np.testing.assert_allclose(certainty(position, jnp.asarray(logits), 3), 1, atol=1e-5)
  flat = jnp.zeros((1, 40))
  inside = sum((i - 9.5) ** 2 + (j - 9.5) ** 2 <= 9 for i in range(20) for j in range(20))
  middle = jnp.full((1, 2), 10.0)
  np.testing.assert_allclose(certainty(middle, flat, 3), inside / 400, rtol=1e-5)


def test_tables_are_read_at_centres_and_fade_or_stay_at_the_border():
  table = jnp.asarray(sincos_table(5, 7, 8))
  rows, columns = np.mgrid[:5, :7] + 0.5
  centres = jnp.asarray(np.stack([rows, columns], axis=-1), jnp.float32)
  for fade in (False, True):
    np.testing.assert_allclose(read_table(table, centres, fade=fade), table, atol=1e-5)
  corner = jnp.zeros((1, 2))
  np.testing.assert_allclose(read_table(table, corner, fade=False)[0], table[0, 0], atol=1e-6)
  np.testing.assert_allclose(read_table(table, corner, fade=True)[0], table[0, 0] / 4, atol=1e-6)


def test_a_grid_is_resized_without_changing_what_is_constant():
  grid = jnp.asarray(RNG.normal(size=(3, 4, 2)), jnp.float32)
  np.testing.assert_array_equal(resize_grid(grid, (3, 4)), grid)
  np.testing.assert_allclose(resize_grid(jnp.ones((3, 4, 2)), (6, 9)), 1, atol=1e-6)
  wide = resize_grid(grid, (9, 12))
  np.testing.assert_allclose(wide[1::3, 1::3], grid, atol=1e-5)  # centres coincide


def torch_names(flat, heads):
  """Returns the arrays of the .npz as torch's state dict has them."""
  found = {"query_pos_embed": np.zeros(1)}
  for name, value in flat.items():
    name = name.replace("backbone/Transformer/encoderblock_", "blocks.").replace("backbone/", "")
    name = name.replace("Transformer/", "").replace("/", ".")
    name = name.replace("embedding.", "lin_proj.") if name.startswith("embedding.") else name
    name = name.replace("layers_", "").replace("pos_embedding", "image_pos_emb")
    name = name.replace("LayerNorm_0", "ln_1").replace("LayerNorm_1", "ln_2")
    name = name.replace("MlpBlock_0.Dense_0", "mlp.0").replace("MlpBlock_0.Dense_1", "mlp.3")
    if name.endswith("kernel") and value.ndim == 5:
      value = value[0].transpose(3, 2, 0, 1)
    elif name.endswith(".out.kernel"):
      value = value.reshape(-1, value.shape[-1]).T
    elif name.endswith("kernel"):
      value = value.reshape(value.shape[0], -1).T
    elif "MultiHead" in name and value.ndim == 2:
      value = value.reshape(-1)
    keep = "ssm_block" in name and name.endswith("norm.scale")
    name = name.replace("kernel", "weight")
    found[name if keep else name.replace("scale", "weight")] = value
  for name in [n for n in found if ".query." in n]:
    parts = [found.pop(name.replace(".query.", f".{kind}.")) for kind in ("query", "key", "value")]
    found[name.replace(".query.", ".in_proj_")] = np.concatenate(parts)
  renamed = {
    n.replace("MultiHeadDotProductAttention_0", "self_attention"): v for n, v in found.items()
  }
  return {n.replace("attention.out.", "attention.out_proj."): v for n, v in renamed.items()}


@pytest.mark.parametrize("prefix", ["", "tapnext.", "state_dict/tapnext."])
def test_torch_files_give_the_arrays_of_the_npz(prefix):
  config = dataclasses.replace(point_trackers.config("tapnext/nano"), flavour="torch")
  tracker = point_trackers.build(config)
  params = tracker.init(jax.random.key(0))
  flat = export_params(params, weights.rules(config))
  torch = {f"{prefix}{n}": v for n, v in torch_names(flat, config.backbone.num_heads).items()}
  assert f"{prefix}blocks.0.vit_block.self_attention.in_proj_weight" in torch
  prepared = weights.prepare(torch)
  prepared.pop("flavour")
  assert prepared.keys() == flat.keys()
  for name, value in flat.items():
    np.testing.assert_array_equal(prepared[name], value, name)
  loaded = point_trackers.from_published(torch, "x", vars(config) | {"flavour": "torch"})
  assert loaded.tracker.config.flavour == "torch"


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"flavour": "flax"}, "flavour='flax'; use one of"),
    ({"height": 20}, "frames of 20×256 are not a whole number of 8×8"),
    ({"bins": 100}, "bins=100 do not cover a table"),
  ],
)
def test_configs_that_contradict_themselves_are_refused(change, message):
  with pytest.raises(ValueError, match=message):
    Config(**change).validate()
