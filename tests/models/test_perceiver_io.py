"""What the Perceivers promise beyond the released numbers: chunks, subsets, tiles, options."""

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_stream import zoo
from perceiver_stream.models.perceiver_io import autoencoder as perceiver_autoencoder
from perceiver_stream.models.perceiver_io import classifier as perceiver_classifier
from perceiver_stream.models.perceiver_io import flow as perceiver_flow
from perceiver_stream.models.perceiver_io.halves import (
  DecoderConfig,
  Encoder,
  EncoderConfig,
  FourierConfig,
)
from perceiver_stream.nn import Linear, in_chunks

RNG = np.random.default_rng(0)


def normal(*shape):
  return jnp.asarray(RNG.normal(size=shape), jnp.float32)


def transform(f):
  return hk.without_apply_rng(hk.transform(f))


# --- chunks -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [None, 1, 3, 7, 8, 100])
@pytest.mark.parametrize("axis", [0, 1])
def test_chunks_of_any_size_give_the_same(size, axis):
  x = {"a": normal(7, 7, 4), "b": normal(7, 7, 2)}

  class Layer(hk.Module):
    def __call__(self, x):
      return Linear(3, name="linear")(jnp.concatenate([x["a"], x["b"]], axis=-1))

  whole = transform(lambda x: Layer(name="layer")(x))
  params = whole.init(jax.random.key(0), x)

  class Chunked(hk.Module):
    def __call__(self, x):
      return in_chunks(Layer(name="layer"), x, size, axis)

  chunked = transform(lambda x: Chunked(name="chunked")(x))
  inner = {f"chunked/{k}": v for k, v in params.items()}
  assert jax.tree.structure(chunked.init(jax.random.key(0), x)) == jax.tree.structure(inner)
  np.testing.assert_allclose(chunked.apply(inner, x), whole.apply(params, x), atol=1e-6)


def test_the_program_does_not_grow_with_the_number_of_chunks():
  apply = transform(lambda x: in_chunks(jnp.sin, x, 4)).apply
  sizes = [len(jax.make_jaxpr(apply)({}, jnp.zeros((1, n, 2))).eqns) for n in (40, 400)]
  assert sizes[0] == sizes[1]


# --- encoder ----------------------------------------------------------------------------------------


def test_blocks_share_their_weights():
  tokens = normal(2, 9, 6)
  config = EncoderConfig(num_latents=4, latent_dim=8, num_layers=2, num_self_heads=2)
  twice = EncoderConfig(**{**vars(config), "num_blocks": 2})
  f = transform(lambda x: Encoder(config, name="encoder")(x))
  params = f.init(jax.random.key(0), tokens)
  process = transform(lambda x: Encoder(config, name="encoder").process(x))
  again = transform(lambda x: Encoder(twice, name="encoder")(x))
  shapes = jax.tree.map(jnp.shape, again.init(jax.random.key(0), tokens))
  assert shapes == jax.tree.map(jnp.shape, params)
  expected = process.apply(params, f.apply(params, tokens))
  np.testing.assert_allclose(again.apply(params, tokens), expected, atol=1e-5)


def test_tokens_outside_the_mask_have_no_influence():
  tokens, mask = normal(2, 9, 6), jnp.asarray(RNG.random((2, 9)) < 0.5).at[:, 0].set(True)
  config = EncoderConfig(num_latents=4, latent_dim=8, num_layers=1, num_self_heads=2)
  f = transform(lambda x, mask: Encoder(config, name="encoder")(x, mask))
  params = f.init(jax.random.key(0), tokens, mask)
  noise = jnp.where(jnp.broadcast_to(mask[..., None], tokens.shape), tokens, 1e3)
  np.testing.assert_array_equal(f.apply(params, tokens, mask), f.apply(params, noise, mask))


def test_initial_deviations_are_the_released_ones():
  config = perceiver_flow.Config(
    height=8, width=8, patch_dim=256, positions=FourierConfig(num_bands=8),
    encoder=EncoderConfig(num_latents=64, latent_dim=64, num_layers=1, num_self_heads=2),
  )  # fmt: skip
  frames = jnp.zeros((1, 2, 8, 8, 3))
  network = transform(lambda x: perceiver_flow.FlowPerceiver(config)(x))
  params = jax.jit(network.init)(jax.random.key(0), frames)
  deviation = lambda name, leaf="w": float(jnp.std(params[f"perceiver_flow/{name}"][leaf]))  # noqa: E731
  assert deviation("encoder/latents", "pos_embs") == pytest.approx(0.02 * 0.88, rel=0.05)
  assert deviation("patches") == pytest.approx(0.88 / np.sqrt(54), rel=0.05)
  assert deviation("encoder/self_0/attention/query") == pytest.approx(1 / 8, rel=0.05)
  assert deviation("decoder/output") == 0
  noise = normal(1, 2, 8, 8, 3)
  np.testing.assert_array_equal(network.apply(params, noise), 0)  # untrained: nothing moves


# --- positions --------------------------------------------------------------------------------------


def test_inputs_reach_both_ends_and_decoded_points_do_not():
  config = FourierConfig(num_bands=2)
  grid, points = config.grid((5,)), config.points((5,), np.arange(5))
  assert grid[0, 0] == -1 == points[0, 0]
  assert grid[-1, 0] == 1 and points[-1, 0] == pytest.approx(0.6)
  assert grid.shape[-1] == config.dim(1) == 5


@pytest.mark.parametrize("as_released", [True, False])
def test_traced_points_are_the_table(as_released):
  config = FourierConfig(num_bands=6, max_resolution=(8, 12, 12), as_released=as_released)
  indices = jnp.asarray([0, 5, 99, 575])
  traced = jax.jit(lambda i: config.points((4, 12, 12), i))(indices)
  np.testing.assert_allclose(traced, config.points((4, 12, 12), np.asarray(indices)), atol=1e-5)


def test_released_rounding_matters_for_sound_only():
  audio = {"num_bands": 192, "max_resolution": (30720,)}
  exact = FourierConfig(as_released=False, **audio).grid((1920,))
  assert 1e-3 < np.abs(FourierConfig(**audio).grid((1920,)) - exact).max() < 3e-2
  exact = FourierConfig(as_released=False).grid((37, 50))
  assert np.abs(FourierConfig().grid((37, 50)) - exact).max() < 1e-3


# --- flow -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size, tile, overlap", [
  (1920, 496, 20), (1080, 368, 20), (720, 368, 20), (496, 496, 20), (497, 496, 20),
  (540, 368, 20), (960, 496, 20), (1000, 100, 0), (301, 100, 99),
])  # fmt: skip
@pytest.mark.parametrize("fewest", [False, True])
def test_tiles_cover_the_image_inside_it_and_none_twice(size, tile, overlap, fewest):
  starts = perceiver_flow.tile_starts(size, tile, overlap, fewest=fewest)
  assert starts[0] == 0 and starts[-1] == size - tile
  assert len(set(starts)) == len(starts) and starts == sorted(starts)
  steps = np.diff(starts)
  least = overlap // 2 if fewest else overlap
  assert (steps <= tile - least).all()
  if fewest:
    assert len(starts) == max(1, -(-(size - least) // (tile - least)))


def test_published_sizes_take_the_tiles_the_specification_counts():
  count = lambda h, w, fewest: (  # noqa: E731
    len(perceiver_flow.tile_starts(h, 368, 20, fewest=fewest))
    * len(perceiver_flow.tile_starts(w, 496, 20, fewest=fewest))
  )
  assert count(368, 496, False) == 1
  assert count(720, 1280, False) == 9 and count(720, 1280, True) == 6
  assert count(1080, 1920, False) == 16 and count(1080, 1920, True) == 12


def test_images_smaller_than_a_tile_are_explained():
  with pytest.raises(ValueError, match="300 pixels cannot be covered by tiles of 368"):
    perceiver_flow.tile_starts(300, 368, 20)


def test_tiled_flow_of_a_function_of_the_pixel_is_that_function():
  frames = RNG.normal(size=(2, 2, 23, 31, 3)).astype(np.float32)
  pointwise = lambda window: np.asarray(window[:, 1, ..., :2] - window[:, 0, ..., :2])  # noqa: E731
  for fewest in (False, True):
    flow = perceiver_flow.tiled_flow(pointwise, frames, (8, 10), overlap=3, fewest=fewest)
    np.testing.assert_allclose(flow, pointwise(frames), atol=1e-5)


def test_tile_weights_are_a_pyramid():
  np.testing.assert_array_equal(
    perceiver_flow.tile_weights(3, 4), [[1, 1, 1, 1], [1, 2, 2, 1], [1, 1, 1, 1]]
  )


def test_frames_of_another_size_are_explained():
  config = zoo.config("perceiver_flow/nano")
  network = transform(lambda x: perceiver_flow.FlowPerceiver(config)(x))
  with pytest.raises(ValueError, match=r"are not \[B, 2, 16, 16, 3\]; use `tiled_flow`"):
    network.init(jax.random.key(0), jnp.zeros((1, 2, 20, 16, 3)))


# --- autoencoder ------------------------------------------------------------------------------------


def autoencoder(**changes):
  config = zoo.config("perceiver_autoencoder/nano")
  for name, value in changes.items():
    setattr(config, name, value)
  inputs = {
    "image": normal(2, 2, 16, 16, 3),
    "audio": normal(2, 1280, 1),
    "label": jnp.zeros((2, 10)),
  }
  make = lambda: perceiver_autoencoder.Autoencoder(config)  # noqa: E731
  return config, inputs, hk.transform(lambda x: make()(x)), make


def test_any_chunk_and_any_subset_decode_to_the_same():
  config, inputs, network, make = autoencoder(decode_chunk=100)
  params = jax.jit(network.init)(jax.random.key(0), inputs)
  whole = jax.jit(network.apply)(params, None, inputs)
  _, _, at_once, _ = autoencoder(decode_chunk=10**6)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4),
    whole,
    jax.jit(at_once.apply)(params, None, inputs),
  )

  config.decode_chunk = 3
  points = jnp.asarray([511, 0, 77, 77])

  def some(x, points):
    network = make()
    return network.decode(network.encode(network.tokens(x)), {"image": points})["image"]

  image = jax.jit(hk.transform(some).apply)(params, None, inputs, points)
  np.testing.assert_allclose(image, whole["image"].reshape(2, -1, 3)[:, points], atol=1e-4)


def test_a_masked_modality_has_no_influence_and_masks_between_need_a_key():
  config, inputs, network, _ = autoencoder()
  params = jax.jit(network.init)(jax.random.key(0), inputs)
  apply = jax.jit(network.apply)
  one = apply(params, None, inputs)
  two = apply(params, None, inputs | {"label": jnp.ones((2, 10))})
  jax.tree.map(np.testing.assert_array_equal, one, two)
  config.mask_probs = {"image": 0.5}
  with pytest.raises(ValueError, match="RNG"):
    network.apply(params, None, inputs)
  half = jax.jit(network.apply)(params, jax.random.key(1), inputs)
  assert np.abs(half["image"] - one["image"]).max() > 1e-4


def test_gained_sound_is_read_louder_and_given_back_as_loud_as_it_was():
  _, inputs, network, _ = autoencoder(audio_gain=1.0)
  _, _, gained_network, _ = autoencoder(audio_gain=8.0)
  params = jax.jit(network.init)(jax.random.key(0), inputs)
  gained = jax.jit(gained_network.apply)(params, None, inputs)
  loud = jax.jit(network.apply)(params, None, inputs | {"audio": 8 * inputs["audio"]})
  np.testing.assert_allclose(8 * gained["audio"], loud["audio"], atol=1e-4)
  np.testing.assert_allclose(gained["image"], loud["image"], atol=1e-5)


@pytest.mark.parametrize("name", ["image", "audio", "label"])
def test_missing_inputs_are_named(name):
  _, inputs, network, _ = autoencoder()
  del inputs[name]
  with pytest.raises(ValueError, match=f"Autoencoder .*: {name} is missing, expected"):
    network.init(jax.random.key(0), inputs)


# --- classifier -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
  "tokens, count, width",
  [
    (perceiver_classifier.FourierPixels(downsample=2), 8 * 10, 3 + 258),
    (perceiver_classifier.LearnedPixels(channels=5, position_dim=6, projected_dim=7), 320, 12),
    (perceiver_classifier.ConvPixels(channels=8), 4 * 5, 8 + 258),
  ],
)
def test_tokens_of_every_kind(tokens, count, width):
  config = perceiver_classifier.Config(
    height=16, width=20, num_classes=3, tokens=tokens, query_dim=8, decoder=DecoderConfig(),
    encoder=EncoderConfig(num_latents=4, latent_dim=8, num_layers=1, num_self_heads=2),
  )  # fmt: skip
  f = transform(lambda x: perceiver_classifier.Classifier(config).tokens(x))
  images = normal(2, 16, 20, 3)
  params = f.init(jax.random.key(0), images)
  assert f.apply(params, images).shape == (2, count, width)
  with pytest.raises(ValueError, match=r"are not \[B, 16, 20, 3\]; crop and resize"):
    f.init(jax.random.key(0), normal(2, 20, 16, 3))
