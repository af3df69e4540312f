"""V-JEPA beyond the stored numbers: masks in arrays, positions, losses, files, full sizes."""

import dataclasses

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_stream.models import vjepa
from perceiver_stream.models.mapping import export_params, flatten, published_names
from perceiver_stream.models.vjepa import masks, positions, targets, weights
from perceiver_stream.models.vjepa.config import MaskConfig
from perceiver_stream.zoo import clip_encoders

GRID = (3, 4, 5)


def shaken(shapes, seed=0):
  rng = np.random.default_rng(seed)
  return jax.tree.map(lambda x: jnp.asarray(0.3 * rng.normal(size=x.shape), x.dtype), shapes)


@pytest.mark.parametrize("variant", ["nano", "nano_v2"])
def test_masked_arrays_give_the_features_of_chosen_places(variant):
  config = clip_encoders.config(f"vjepa/{variant}")
  rows, num = 2, int(np.prod(config.grid))
  rng = np.random.default_rng(0)
  order = np.stack([rng.permutation(num) for _ in range(rows)])
  seen, hidden = (jnp.asarray(np.sort(x)) for x in (order[:, :3], order[:, 3:5]))
  is_seen, is_hidden = (jnp.any(jax.nn.one_hot(x, num, dtype=bool), axis=1) for x in (seen, hidden))
  shape = (rows, config.num_frames, config.height, config.width, 3)
  clips = jnp.asarray(rng.random(shape, np.float32))

  def both(clips):
    encoder, predictor = vjepa.Encoder(config), vjepa.Predictor(config)
    some, every = encoder(clips, seen), encoder(clips, visible=is_seen)
    predicted = predictor(some, seen, hidden, 1)
    dense = predictor.dense(every, is_seen, is_hidden, 1)
    return some, vjepa.gathered(every, seen), predicted, vjepa.gathered(dense, hidden)

  network = hk.without_apply_rng(hk.transform(both))
  params = shaken(jax.eval_shape(network.init, jax.random.key(0), clips))
  some, every, predicted, dense = jax.jit(network.apply)(params, clips)
  np.testing.assert_allclose(every, some, atol=1e-5)
  np.testing.assert_allclose(dense, predicted, atol=1e-5)


@pytest.mark.parametrize("inverted", [False, True])
def test_drawn_masks_are_unions_of_blocks(inverted):
  config = MaskConfig(num_blocks=2, spatial_scale=(0.3, 0.3), inverted=inverted)
  draw = jax.jit(lambda key: masks.draw_masks(key, config, GRID, 6))
  sizes = set()
  for seed in range(8):
    seen, hidden = draw(jax.random.key(seed))
    covered = (seen if inverted else hidden).reshape(6, *GRID)
    assert jnp.all(seen != hidden) and jnp.all(jnp.any(seen, axis=1))
    assert jnp.all(covered == covered[:, :1])  # blocks last the whole clip
    sizes |= set(np.asarray(covered[:, 0].sum(axis=(1, 2))).tolist())
  block = int(20 * 0.3)
  assert min(sizes) >= block - 2 and max(sizes) <= 2 * (block + 2) and len(sizes) > 2


def test_drawn_masks_never_hide_everything():
  config = MaskConfig(num_blocks=3, spatial_scale=(1.0, 1.0), aspect_ratio=(1.0, 1.0))
  seen, hidden = masks.draw_masks(jax.random.key(0), config, (2, 3, 3), 4)
  assert seen.sum(axis=1).tolist() == [1] * 4 and not jnp.any(seen & hidden)
  seen, _ = masks.draw_masks(jax.random.key(0), MaskConfig(max_temporal_keep=0.5), (4, 4, 4), 3)
  assert not jnp.any(seen.reshape(3, 4, -1)[:, 2:])


@pytest.mark.parametrize("complement", ["", "full", "target"])
def test_drawn_masks_keep_at_most_as_many_places_as_the_sampler(complement):
  plain = MaskConfig(num_blocks=1, spatial_scale=(0.3, 0.3), complement=complement)
  cut = dataclasses.replace(plain, max_keep=7)
  seen, hidden = masks.draw_masks(jax.random.key(0), plain, GRID, 5)
  few, wanted = masks.draw_masks(jax.random.key(0), cut, GRID, 5)
  (sampled,) = masks.MaskSampler([cut], GRID, seed=0)(5)
  if complement == "target":
    assert jnp.all(few == seen) and sampled.context.shape[1] > 7
    return
  assert few.sum(axis=1).tolist() == [7] * 5 and sampled.context.shape == (5, 7)
  assert jnp.all(seen | ~few)  # the first ones, as the sampler's
  assert [np.flatnonzero(x)[:7].tolist() for x in seen] == [np.flatnonzero(x).tolist() for x in few]
  assert jnp.all(wanted == (~few if complement == "full" else hidden))


@pytest.mark.parametrize("name", [n for n in clip_encoders.names() if n.startswith("vjepa/")])
def test_every_variant_hides_something(name):
  config = clip_encoders.config(name)
  assert all(min(masks.largest_block(one, config.grid)) > 0 for one in config.masks)


def test_sampler_rows_are_as_long_as_the_shortest():
  configs = (MaskConfig(), MaskConfig(num_blocks=2, spatial_scale=(0.5, 0.5)))
  sampler = masks.MaskSampler(configs, (2, 6, 5), seed=3)
  sampler(2)
  for found in sampler(5):
    both = np.concatenate([found.context, found.target], axis=1)
    assert all(len(set(row)) == len(row) for row in both)
    assert np.all(np.diff(found.context, axis=1) > 0) and np.all(np.diff(found.target, axis=1) > 0)
  full = masks.MaskSampler([MaskConfig(complement="full")], (2, 6, 5), seed=3)
  (found,) = full(4)
  assert found.context.shape[1] + found.target.shape[1] == 60
  resumed = masks.MaskSampler(configs, (2, 6, 5), seed=3, step=1)
  assert resumed.step == 1 and masks.extent((4, 8, 8), 0.4, 0.25, 1.0) == (1, 4, 4)


def test_tables_are_interpolated_between_centres():
  table = positions.sincos_table(GRID, 10)
  np.testing.assert_array_equal(positions.resized_table(table, GRID, GRID), table)
  ramp = np.arange(4.0)[:, None]
  wide = positions.resized_table(ramp, (4, 1, 1), (8, 1, 1))[:, 0]
  np.testing.assert_allclose(wide, [0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3])
  assert positions.sincos_table(GRID, 16, uniform=False).shape == (60, 16)


def test_rotations_depend_on_differences_unless_as_released():
  x = jax.random.normal(jax.random.key(0), (1, 2, 1, 8))
  dot = lambda shift, released: float(  # noqa: E731
    jnp.sum(
      jnp.prod(positions.rotated(x, jnp.array([[1.0, 4.0]]) + shift, as_released=released), axis=1)
    )
  )
  assert dot(0.0, False) == pytest.approx(dot(5.0, False), abs=1e-4)
  assert abs(dot(0.0, True) - dot(5.0, True)) > 1e-2
  places = jnp.array([[0, 7]])
  head = positions.rotated_3d(x, places, (2, 3))
  np.testing.assert_array_equal(head[..., 6:], x[..., 6:])  # three parts of two, the rest stays
  np.testing.assert_allclose(head[0, 0], x[0, 0], atol=1e-6)


def test_losses_in_closed_form():
  x = np.arange(12.0, dtype=np.float32).reshape(1, 3, 4)
  x = jnp.asarray(x)
  normed = targets.target_features(x)
  np.testing.assert_allclose(jnp.mean(normed, axis=-1), 0, atol=1e-6)
  np.testing.assert_allclose(jnp.var(normed, axis=-1), 1, atol=1e-4)
  assert targets.feature_loss(x, x + 2) == 2
  assert targets.feature_loss(x, x + 2, exponent=2.0) == 2
  some = jnp.array([[True, False, False]])
  assert targets.feature_loss(x, x.at[:, 1:].add(9.0), some) == 0
  assert targets.spread_loss([x, x]) == 0
  assert targets.spread_loss([jnp.ones_like(x)]) == pytest.approx(0.99)
  assert targets.cosine_decay(4, total=4, start=0.4, final=0.1)[-1] == pytest.approx(0.1)


@pytest.mark.parametrize("prefix", ["", "target_encoder.module.backbone.", "encoder.backbone."])
@pytest.mark.parametrize("variant", ["nano", "nano_v2"])
def test_files_of_training_load_the_teacher(prefix, variant, tmp_path):
  from safetensors.numpy import save_file

  encoder = clip_encoders.build(f"vjepa/{variant}")
  params, _ = clip_encoders.template(encoder)
  params = shaken(params)
  flat = export_params(params, weights.encoder_rules(encoder.config, prefix))
  if prefix.startswith("target"):
    student = export_params(
      params, weights.encoder_rules(encoder.config, "encoder.module.backbone.")
    )
    flat |= {name: -value for name, value in student.items()}
    flat["predictor.module.backbone.predictor_embed.bias"] = np.zeros(3, np.float32)
  table = f"{prefix}pos_embed"
  if variant == "nano":
    flat[table] = np.zeros((1, int(np.prod(encoder.config.grid)), 16), np.float32)
  path = tmp_path / "file.safetensors"
  save_file({k: np.ascontiguousarray(v) for k, v in flat.items()}, path)
  changes = {"num_heads": encoder.config.num_heads}
  loaded = clip_encoders.load(path, **changes)
  assert loaded.encoder.config.positions == encoder.config.positions
  assert loaded.encoder.config.num_layers == encoder.config.num_layers
  for name, value in flatten(params).items():
    np.testing.assert_array_equal(flatten(loaded.params)[name], value)


EVERY_BLOCK = {
  **{f"norm{i}.{part}": ("D",) for i in (1, 2) for part in ("weight", "bias")},
  "attn.qkv.weight": ("3D", "D"),
  "attn.qkv.bias": ("3D",),
  "attn.proj.weight": ("D", "D"),
  "attn.proj.bias": ("D",),
  "mlp.fc1.weight": ("M", "D"),
  "mlp.fc1.bias": ("M",),
  "mlp.fc2.weight": ("D", "M"),
  "mlp.fc2.bias": ("D",),
}


def blocks(prefix: str, layers: int, dim: int, mlp: int) -> dict[str, tuple[int, ...]]:
  size = {"D": dim, "3D": 3 * dim, "M": mlp}
  return {
    f"{prefix}.{i}.{name}": tuple(size[k] for k in shape)
    for i in range(layers)
    for name, shape in EVERY_BLOCK.items()
  }


@pytest.mark.parametrize(
  ("variant", "dim", "layers", "mlp"),
  [
    ("large", 1024, 24, 4096),
    ("huge", 1280, 32, 5120),
    ("v2_large", 1024, 24, 4096),
    ("v2_giant", 1408, 40, 6144),
  ],
)
def test_full_sizes_have_the_published_names_and_shapes(variant, dim, layers, mlp):
  config = clip_encoders.config(f"vjepa/{variant}")
  assert config.num_layers == layers and config.predictor.num_layers == 12
  config.num_layers = config.predictor.num_layers = layers = 2  # the others are like these
  encoder = clip_encoders.build(config)
  params, _ = clip_encoders.template(encoder)
  names = published_names(params, weights.encoder_rules(config))
  expected = blocks("blocks", layers, dim, mlp)
  expected |= {"patch_embed.proj.weight": (dim, 3, 2, 16, 16), "patch_embed.proj.bias": (dim,)}
  expected |= {"norm.weight": (dim,), "norm.bias": (dim,)}
  assert {p.name: p.shape for p in names.values()} == expected
  predictor = hk.transform(lambda x, i: vjepa.Predictor(config)(x, i, i))
  shapes = jax.eval_shape(
    predictor.init, jax.random.key(0), jnp.zeros((1, 2, dim)), jnp.zeros((1, 2), jnp.int32)
  )
  names = published_names(shapes, weights.predictor_rules())
  expected = blocks("predictor_blocks", layers, 384, 1536)
  tokens = 10 if variant.startswith("v2") else 2
  expected |= {f"mask_tokens.{i}": (1, 1, 384) for i in range(tokens)}
  expected |= {"predictor_norm.weight": (384,), "predictor_norm.bias": (384,)}
  expected |= {"predictor_embed.weight": (384, dim), "predictor_embed.bias": (384,)}
  expected |= {"predictor_proj.weight": (dim, 384), "predictor_proj.bias": (dim,)}
  assert {p.name: p.shape for p in names.values()} == expected


def test_the_table_of_the_published_size():
  config = clip_encoders.config("vjepa/large")
  assert positions.sincos_table(config.grid, config.dim).shape == (1568, 1024)


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"height": 20}, "whole number of tubelets of 2×8×8"),
    ({"num_heads": 3}, "dim=16 is not a multiple"),
  ],
)
def test_sizes_that_do_not_fit(changes, message):
  config = clip_encoders.config("vjepa/nano")
  with pytest.raises(ValueError, match=message):
    vjepa.build(vjepa.Config(**vars(config) | changes))
