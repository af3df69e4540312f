"""What single modalities promise beyond the common contract."""

import haiku as hk
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_stream.modalities import audio, depth, flow, pixels, segmentation, vector
from perceiver_stream.modalities.base import Queries, cell_index
from perceiver_stream.nn import coordinates


@pytest.mark.parametrize(
  ("options", "message"),
  [
    (
      {"height": 97, "width": 128, "patch": 8},
      "height 97 is not a multiple of patch=8; use 96 or 104",
    ),
    ({"tokenizer": "pixle"}, "tokenizer 'pixle' is not one of"),
    ({"tokenizer": "pixel", "patch": 4}, "needs patch=1, not patch=4"),
    (
      {"tokenizer": "conv", "patch": 16, "conv_channels": (8, 8)},
      "cannot reach patch=16 with 2 layers",
    ),
  ],
)
def test_pixels_refuses_sizes_that_do_not_fit(options, message):
  with pytest.raises(ValueError, match=message):
    pixels.Config(**options).validate()


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"num_samples": 641}, "641 samples is not a multiple of patch=16"),
    ({"num_samples": 128}, "shorter than window=256"),
    ({"predict": "chroma"}, "predict='chroma' is not one of"),
    ({"tokenizer": "cqt"}, "tokenizer 'cqt' is not one of"),
  ],
)
def test_audio_refuses_sizes_that_do_not_fit(options, message):
  with pytest.raises(ValueError, match=message):
    audio.Config(**options).validate()


def test_log_mel_of_a_tone_peaks_in_its_band():
  modality = audio.Audio("audio", audio.Config())
  time = np.arange(640) / 16000
  bands = [
    int(np.argmax(modality.log_mel(jnp.asarray(np.sin(2 * np.pi * f * time), jnp.float32)).mean(0)))
    for f in (300, 1000, 3000, 7000)
  ]
  assert bands == sorted(set(bands))
  silence = modality.log_mel(jnp.zeros(640, jnp.float32))
  np.testing.assert_allclose(silence, np.log(1e-5), rtol=1e-5)


def test_log_spectral_distance_of_twice_the_amplitude_is_six_decibels():
  modality = audio.Audio("audio", audio.Config())
  noise = np.random.default_rng(0).uniform(-0.5, 0.5, (1, 640)).astype(np.float32)
  quiet, loud = modality.copy(jnp.asarray(noise)), modality.copy(jnp.asarray(2 * noise))
  np.testing.assert_allclose(modality.metric(loud, quiet), [6.02], atol=0.02)


def test_mel_filters_cover_the_spectrum_without_empty_bands():
  filters = audio.mel_filters(32, 256, 16000.0)
  assert filters.shape == (129, 32)
  assert np.all(filters.sum(axis=0) > 0)
  assert np.all(filters.sum(axis=1)[1:-1] > 0)


def test_waveform_prediction_has_the_shape_of_the_tick():
  modality = audio.Audio("audio", audio.Config(predict="waveform", tokenizer="patch"))
  samples = jnp.asarray(modality.random_observation(np.random.default_rng(0), (2,)))
  assert modality.split(samples).shape == (2, 40, 16)
  assert modality.metric_name == "mse"


def test_depth_takes_infinite_and_nan_as_far():
  modality = depth.Depth("depth", depth.Config(height=4, width=4, nearest=0.5, farthest=20.0))
  raw = jnp.asarray([[[np.inf, np.nan, 0.0, 3.0]] * 4], jnp.float32)
  np.testing.assert_allclose(jnp.exp(modality.preprocess(raw))[0, 0], [20, 20, 0.5, 3], rtol=1e-5)


def test_depth_metric_is_absolute_relative_error():
  modality = depth.Depth("depth", depth.Config(height=4, width=4))
  truth = jnp.full((1, 4, 4), jnp.log(2.0))
  np.testing.assert_allclose(
    modality.metric(jnp.full((1, 4, 4), jnp.log(3.0)), truth), [0.5], rtol=1e-5
  )


def test_flow_metric_is_the_end_point_error_in_pixels():
  modality = flow.Flow("flow", flow.Config(height=4, width=4, scale=5.0))
  raw = jnp.zeros((1, 4, 4, 2)).at[..., 0].set(3.0).at[..., 1].set(4.0)
  error = modality.metric(modality.preprocess(jnp.zeros((1, 4, 4, 2))), modality.preprocess(raw))
  np.testing.assert_allclose(error, [5.0], rtol=1e-5)


def test_segmentation_maps_unknown_ids_to_background():
  modality = segmentation.Segmentation("seg", segmentation.Config(height=4, width=4, num_classes=3))
  raw = jnp.asarray([[[-1, 0, 2, 7]] * 4], jnp.int32)
  np.testing.assert_array_equal(modality.preprocess(raw)[0, 0], [0, 0, 2, 0])
  logits = modality.copy(modality.preprocess(raw))
  np.testing.assert_array_equal(modality.metric(logits, modality.preprocess(raw)), [0.0])


def test_where_ids_only_number_things_they_are_one_class():
  config = segmentation.Config(height=4, width=4, num_classes=2, foreground=True)
  modality = segmentation.Segmentation("seg", config)
  ids = modality.preprocess(jnp.asarray([[0, 1], [7, -3]]))
  np.testing.assert_array_equal(ids, [[0, 1], [1, 1]])
  with pytest.raises(ValueError, match="foreground=True .* 2 classes, but num_classes=16"):
    segmentation.Segmentation("seg", segmentation.Config(height=4, width=4, foreground=True))


def test_vector_has_one_cell():
  assert vector.Vector("pose", vector.Config(size=5)).grid_shape() == (1,)


def test_cells_of_grid_positions_are_the_cells_themselves():
  for shape in ((7,), (6, 10), (5, 3)):
    positions = jnp.asarray(coordinates(shape), jnp.float32)
    np.testing.assert_array_equal(cell_index(positions, shape), np.arange(np.prod(shape)))
  edge = jnp.asarray([[-1.0, -1.0], [1.0, 1.0]])
  np.testing.assert_array_equal(cell_index(edge, (4, 5)), [0, 19])


def test_warping_by_the_true_motion_restores_the_next_frame():
  """With gain 1 the head shifts a moving picture on by its matched motion."""
  modality = pixels.Pixels("pixels", pixels.Config(height=32, width=32, patch=4, motion_levels=2))
  rng = np.random.default_rng(0)
  smooth = rng.uniform(size=(8, 12, 3)).repeat(8, 0).repeat(8, 1).astype(np.float32)
  kernel = np.ones(9) / 9
  for axis in (0, 1, 0, 1):
    smooth = np.apply_along_axis(lambda v: np.convolve(v, kernel, "same"), axis, smooth)
  frames = [smooth[16:48, 32 - t : 64 - t].astype(np.float32)[None] for t in range(3)]
  memory = modality.initial_memory(1)
  yes, no = jnp.ones(1, bool), jnp.zeros(1, bool)
  for frame in frames[:2]:
    memory = modality.remember(memory, jnp.asarray(frame), yes, no)
  positions = jnp.asarray(modality.query_grid(), jnp.float32)
  queries = Queries(positions, jnp.ones(len(positions), jnp.float32))
  head = hk.without_apply_rng(
    hk.transform(lambda x: modality.head(x, memory, modality.derive(memory), queries))
  )
  decoded = jnp.ones((1, len(positions), 1))
  params = head.init(None, decoded)
  params["pixels_flow"]["b"] = jnp.asarray([1.0, 0.0, 0.0])
  answer = head.apply(params, decoded)
  predicted, copied = modality.assemble(answer["pixels"]), memory.last
  inner = (slice(None), slice(4, -4), slice(4, -4))
  error, copy_error = (
    np.mean((np.asarray(x)[inner] - frames[2][inner]) ** 2) for x in (predicted, copied)
  )
  assert error < 0.1 * copy_error
  median = np.median(np.asarray(answer["pixels_flow"])[..., 0])
  np.testing.assert_allclose(median, -1.0, atol=0.15)
