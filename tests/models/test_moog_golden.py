"""The released MooG code's own numbers: every stored array and gradient of every golden file."""

import functools

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden import Golden
from published import (
  call,
  clip_config,
  dense_config,
  golden_files,
  jitted,
  load_params,
  moog_config,
  point_config,
)
from whole_models import WholeMoog, decode_all

from perceiver_stream.core import CoreInputs
from perceiver_stream.models import mapping as translation
from perceiver_stream.models.moog import weights as moog_weights
from perceiver_stream.models.moog.network import DenseDecoder, Moog, position_table
from perceiver_stream.models.moog.readouts import ClipReadout, PointReadout, as_points
from perceiver_stream.models.moog.sampling import sampled, sampled_cells

time_major = lambda x: jnp.swapaxes(jnp.asarray(x), 0, 1)  # noqa: E731
LOOSE = 5e-2  # the specification's tolerance where position features are not fed


@pytest.mark.parametrize("feed", [True, False], ids=["fed", "computed"])
@pytest.mark.parametrize("use_self", [True, False], ids=["notebook", "cross_only"])
@pytest.mark.parametrize("path", golden_files("moog"))
def test_checkpoint(path, use_self, feed):
  golden = Golden(path)
  config = moog_config(golden.hyper, norm_first=True, use_self=use_self)
  video = time_major(golden.arrays["inputs/video"])
  state = jnp.asarray(golden.arrays["inputs/initial_state"])
  encoder_positions = jnp.asarray(golden.arrays["aux/encoder_fourier"]) if feed else None
  grid = golden.arrays["aux/decoder_fourier"] if feed else None
  table = position_table((config.height, config.width), config.decoder.num_octaves, True, grid)
  args = (video, state, encoder_positions, table)
  published = golden.part("params/")
  ignore = "" if use_self else ".*decoder/.*/self_att/.*"
  rules = moog_weights.backbone("pretrained_model/", config)
  params = load_params(lambda: WholeMoog(config), args, rules, published, ignore)
  count = "num_params" if use_self else "num_params_cross_only_decoder"
  assert sum(x.size for x in jax.tree.leaves(params)) == golden.about[count]

  tokens, steps, last, decoded, decoded_before = call(
    lambda: WholeMoog(config), "__call__", params, *args
  )
  atol = golden.atol if feed else LOOSE
  close = lambda x, name: golden.close(f"outputs/{name}", time_major(x), atol)  # noqa: E731
  close(tokens, "encoded")
  close(steps.before, "normed_state")
  close(steps.predicted, "predicted_state")
  close(steps.corrected, "corrected_state")
  close(steps.corrected, "features")
  golden.close("outputs/state", last, atol)
  pictures = lambda x: x.reshape(video.shape)  # noqa: E731
  kind = "" if use_self else "cross_only/"
  close(pictures(decoded), f"{kind}decoded_from_predicted_state")
  close(pictures(decoded_before), f"{kind}decoded_from_previous_state")


def stored_positions(golden, octaves):
  """Returns the position features of the full grid that the file has for so many octaves, or None."""
  same = octaves == golden.hyper["decoder"]["num_fourier_bases"]
  return golden.arrays["aux/decoder_fourier_full_grid"] if same else None


def sample(golden, config, video, every, offsets, octaves=None):
  """Returns position features and targets of the sampled pixels, `[T, B, Q, ·]`.

  Features are those of the decoder as they are stored, or of so many octaves as we compute them.
  """
  ticks, batch = video.shape[:2]
  size, octaves = (config.height, config.width), octaves or config.decoder.num_octaves
  cells = sampled_cells(size, every, offsets.reshape(-1, 2))
  table = position_table(size, octaves, True, stored_positions(golden, octaves))
  targets = sampled(video.reshape(-1, *video.shape[2:]), cells)
  split = lambda x: x.reshape(ticks, batch, *x.shape[1:])  # noqa: E731
  return split(table[cells]), split(targets)


def run_repo(network, video, state, encoder_positions, positions, targets):
  """Returns states, predictions and the training loss."""
  tokens = network.encode(video, encoder_positions)
  steps, last = network.unroll(CoreInputs(tokens, beside=(targets, positions)), state)
  decoded = decode_all(network, steps.predicted, positions)
  return steps, last, decoded, jnp.mean(jnp.square(decoded - targets))


class Repo(hk.Module):
  def __init__(self, config):
    super().__init__(name="repo")
    self.config = config

  @hk.transparent
  def __call__(self, *args):
    return run_repo(Moog(self.config), *args)


@functools.cache
def repo(path, kind):
  golden = Golden(path)
  config = moog_config(golden.hyper, norm_first=False, use_loss_gradient=kind == "loss_gradient")
  video = time_major(golden.arrays["inputs/video"])
  state = jnp.asarray(golden.arrays["inputs/initial_state"])
  encoder_positions = jnp.asarray(golden.arrays["aux/encoder_fourier"])
  zero = jnp.zeros((*video.shape[:2], 2), jnp.int32)
  every = golden.hyper["decoder"]["eval_subsample_factor"]
  positions, targets = sample(golden, config, video, every, zero)
  args = (video, state, encoder_positions, positions, targets)
  ignore = "" if config.use_loss_gradient else ".*state_grad_projector.*"
  rules = moog_weights.backbone("model/", config)
  published = {k: v for k, v in golden.part("params/").items() if k.startswith("model/")}
  params = load_params(lambda: Repo(config), args, rules, published, ignore)
  return golden, config, args, rules, params, call(lambda: Repo(config), "__call__", params, *args)


REPO = golden_files("moog_repo")


@pytest.mark.parametrize("kind", ["plain", "loss_gradient"])
@pytest.mark.parametrize("path", REPO)
def test_training_code_forward(path, kind):
  golden, _, args, _, _, (steps, last, decoded, _) = repo(path, kind)
  name = f"outputs/{kind}/eval/"
  golden.close(f"{name}states_predicted", time_major(steps.predicted))
  golden.close(f"{name}states_corrected", time_major(steps.corrected))
  golden.close(f"{name}state", last)
  shape = golden.arrays[f"{name}video_predicted"].shape
  golden.close(f"{name}video_predicted", time_major(decoded).reshape(shape))
  golden.close(f"{name}subsampled_targets_predicted", time_major(args[-1]).reshape(shape))


@pytest.mark.parametrize("path", REPO)
def test_training_code_with_computed_positions(path):
  golden, config, (video, state, _, _, targets), _, params, _ = repo(path, "plain")
  table = position_table((config.height, config.width), config.decoder.num_octaves)
  every = golden.hyper["decoder"]["eval_subsample_factor"]
  zero = jnp.zeros((video.shape[0] * video.shape[1], 2), jnp.int32)
  positions = table[sampled_cells((config.height, config.width), every, zero)]
  positions = positions.reshape(*video.shape[:2], *positions.shape[1:])
  args = (video, state, None, positions, targets)
  steps, last, decoded, _ = call(lambda: Repo(config), "__call__", params, *args)
  name = "outputs/plain/eval/"
  golden.close(f"{name}states_corrected", time_major(steps.corrected), LOOSE)
  golden.close(f"{name}state", last, LOOSE)
  shape = golden.arrays[f"{name}video_predicted"].shape
  golden.close(f"{name}video_predicted", time_major(decoded).reshape(shape), LOOSE)


@pytest.mark.parametrize("path", REPO)
def test_first_state_is_normalised(path):
  golden, config, _, _, params, _ = repo(path, "plain")
  noise = jnp.asarray(golden.arrays["inputs/raw_initial_state"]) / config.init_scale
  state = call(lambda: Moog(config), "start", params, noise)
  golden.close("inputs/initial_state", state)


@pytest.mark.parametrize("kind", ["plain", "loss_gradient"])
@pytest.mark.parametrize("path", REPO)
def test_training_code_loss_and_gradients(path, kind):
  golden, config, args, rules, params, _ = repo(path, kind)
  video, state, encoder_positions = args[:3]
  offsets = time_major(golden.arrays[f"inputs/{kind}/train_offsets"])
  every = golden.hyper["decoder"]["subsample_factor"]
  positions, targets = sample(golden, config, video, every, offsets)
  f = hk.transform(lambda *a: Repo(config)(*a)).apply

  def loss(params):
    _, _, decoded, value = f(params, None, video, state, encoder_positions, positions, targets)
    return value, decoded

  (value, decoded), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
  name = f"outputs/{kind}/train/"
  shape = golden.arrays[f"{name}video_predicted"].shape
  golden.close(f"{name}video_predicted", time_major(decoded).reshape(shape))
  golden.close(f"{name}subsampled_targets_predicted", time_major(targets).reshape(shape))
  golden.close(f"{name}loss", value)
  exported = translation.export_params(grads, rules)
  stored = golden.part(f"grads/{kind}/")
  assert set(exported) == set(stored)
  for key, gradient in exported.items():
    golden.close(f"grads/{kind}/{key}", gradient)


@pytest.mark.parametrize("path", REPO)
def test_points_frame_by_frame(path):
  golden, _, _, _, _, (steps, *_) = repo(path, "plain")
  published = {
    k.removeprefix("points/"): v
    for k, v in golden.part("params/").items()
    if k.startswith("points/")
  }
  config = point_config(golden.hyper["points"], published)
  features = jnp.concatenate([steps.predicted, steps.corrected], axis=2)
  queries = jnp.asarray(golden.arrays["inputs/query_points"])
  starts = time_major(golden.arrays["inputs/query_frame_mask"])
  positions = jnp.asarray(golden.arrays["aux/points_query_fourier"])
  make = lambda: PointReadout(config, name="points")  # noqa: E731
  args = (features, queries, starts, None, positions)
  rules = moog_weights.point_readout("points", "points", config)
  published = {f"points/{k}": v for k, v in published.items()}
  params = load_params(make, args, rules, published)
  tracks, last = call(make, "__call__", params, *args)
  points = tracks.points
  golden.close("outputs/points/values", time_major(points.values))
  logits = jnp.concatenate([points.visible, points.certainty], axis=-1)
  golden.close("outputs/points/logits", time_major(logits))
  seen = points.seen(golden.hyper["points"]["certainty_threshold"])
  golden.close("outputs/points/visible", time_major(seen))
  golden.close("outputs/points/states", time_major(tracks.state))
  golden.close("outputs/points/states_corrected", time_major(tracks.corrected))
  golden.close("outputs/points/state", last)
  computed, _ = call(make, "__call__", params, *args[:-1])
  golden.close("outputs/points/values", time_major(computed.points.values), LOOSE)


@pytest.mark.parametrize("path", REPO)
def test_depth(path):
  golden, model_config, _, _, _, (steps, *_) = repo(path, "plain")
  config = dense_config(golden.hyper["depth"])
  features = jnp.concatenate([steps.predicted, steps.corrected], axis=2)
  depth = time_major(golden.arrays["inputs/depth"])
  offsets = jnp.zeros((*depth.shape[:2], 2), jnp.int32)
  every = golden.hyper["depth"]["eval_subsample_factor"]
  octaves, channels = config.num_octaves, depth.shape[-1]
  positions, targets = sample(golden, model_config, depth, every, offsets, octaves)
  merge = lambda x: x.reshape(-1, *x.shape[2:])  # noqa: E731
  make = lambda: DenseDecoder(config, channels, name="depth")  # noqa: E731
  args = (merge(features), merge(positions))
  rules = moog_weights.dense_decoder("depth", "depth/backbone", config)
  published = {k: v for k, v in golden.part("params/").items() if k.startswith("depth/")}
  params = load_params(make, args, rules, published)
  answers = call(make, "__call__", params, *args).reshape(targets.shape)
  shape = golden.arrays["outputs/depth/values"].shape
  atol = golden.atol if stored_positions(golden, octaves) is not None else LOOSE
  golden.close("outputs/depth/values", time_major(answers).reshape(shape), atol)
  golden.close("outputs/depth/subsampled_targets", time_major(targets).reshape(shape))


@pytest.mark.parametrize("kind", ["points", "boxes"])
@pytest.mark.parametrize("path", golden_files("moog_readouts"))
def test_clip_heads(path, kind):
  golden = Golden(path)
  config = clip_config(golden.hyper[kind], golden.hyper["frames"])
  make = lambda: ClipReadout(config, name=kind)  # noqa: E731
  features = jnp.asarray(golden.arrays["inputs/features"])
  queries = jnp.asarray(golden.arrays[f"inputs/query_{kind}"])
  positions = jnp.asarray(golden.arrays[f"aux/{kind}/query_fourier"])
  rules = moog_weights.clip_readout(kind, f"{kind}_head", config)
  published = {k: v for k, v in golden.part("params/").items() if k.startswith(f"{kind}_head/")}
  params = load_params(make, (features, queries, positions), rules, published)
  assert sum(x.size for x in jax.tree.leaves(params)) == golden.about["num_params"][kind]
  model = jitted(make, "__call__")
  answers = model(params, features, queries, positions)
  near = model(params, features, queries)
  np.testing.assert_allclose(near, answers, atol=LOOSE)
  h, width = golden.hyper[kind], queries.shape[-1]
  values = jax.nn.sigmoid(answers[..., :width]) if h["activation"] else answers[..., :width]
  golden.close(f"outputs/{kind}/values", values)
  if not h["predict_visibility"]:
    return
  points = as_points(answers)
  golden.close(f"outputs/{kind}/logits_visible", points.visible)
  if h["use_certainty"]:
    golden.close(f"outputs/{kind}/logits_certainty", points.certainty)
  golden.close(f"outputs/{kind}/visible", points.seen(h["certainty_threshold"]))
