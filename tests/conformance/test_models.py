"""The streaming contract of every model: each family's nano variants and three mixtures of options.

A new family is tested by being in the zoo. Observations always carry their flags and have one of two
lengths, so that a model compiles few programs for all of its tests.
"""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from quick_init import with_quick_init
from trees import assert_close, shaken

from perceiver_stream import zoo
from perceiver_stream.core import GatedConfig, PositionedConfig, PredictCorrectConfig
from perceiver_stream.modalities import audio, depth, flow, pixels, segmentation, vector
from perceiver_stream.models import stream_perceiver
from perceiver_stream.nn import Precision
from perceiver_stream.training.objectives import FuturePrediction, ObjectiveConfig
from perceiver_stream.types import IS_FIRST, ModalitySpec, valid_key

ROWS, TICKS, HALF = 2, 4, 2


def mixture(core=None, bottleneck=None, **modalities) -> stream_perceiver.Config:
  return stream_perceiver.Config(
    modalities=modalities,
    core=core or PredictCorrectConfig(num_latents=5, latent_dim=8, num_heads=2),
    bottleneck=bottleneck or stream_perceiver.BottleneckConfig(),
    token_dim=8,
    query_dim=8,
    num_decoder_heads=2,
    displacements=(1, 4),
  )


def frame(**options) -> pixels.Config:
  return pixels.Config(**({"height": 8, "width": 12, "patch": 4} | options))


def everything() -> stream_perceiver.Config:
  size = {"height": 8, "width": 8, "patch": 4}
  return mixture(
    pixels=frame(),
    audio=audio.Config(),
    depth=depth.Config(**size),
    flow=flow.Config(**size),
    labels=segmentation.Config(**size, num_classes=4),
    pose=vector.Config(size=3),
  )


def gated_and_conv() -> stream_perceiver.Config:
  return mixture(
    GatedConfig(num_latents=5, latent_dim=8, num_heads=2, num_layers=1),
    pixels=frame(tokenizer="conv", conv_channels=(4, 6)),
    audio=audio.Config(tokenizer="patch", predict="waveform"),
  )


def with_positions() -> stream_perceiver.Config:
  keys = {"patch": 3, "wide_reach": 3, "num_wide": 2}
  core = PositionedConfig(num_latents=5, latent_dim=8, num_heads=2, global_share=0.4, **keys)
  images = {"pixels": frame(), "depth": depth.Config(height=8, width=8, patch=4)}
  latents_only = stream_perceiver.BottleneckConfig(condition_queries_on_input=False)
  return mixture(core, latents_only, **images, audio=audio.Config())


MIXTURES = {
  "everything": everything,
  "gated_and_conv": gated_and_conv,
  "with_positions": with_positions,
  "per_pixel": lambda: mixture(pixels=frame(height=4, width=6, tokenizer="pixel", patch=1)),
}
ZOO = [name for name in zoo.names() if name.endswith("/nano")]
NAMES = [*MIXTURES, *ZOO]
# No memory of earlier ticks, by design.
STATELESS = {"perceiver_classifier/nano"}
# Parameters that the loss below does not reach: masks that no token of ours wears (image and audio
# are never masked, as published), a bias of keys, which a softmax does not feel, and stored grids.
UNREACHED = ("audio_mask", "image_mask", "label_padding", "/attention/key']['b'", "coder_positions")


@functools.cache
def config_of(name: str):
  return MIXTURES[name]() if name in MIXTURES else zoo.config(name)


def having(field: str) -> list[str]:
  """Returns the models whose config has a field."""
  return [name for name in NAMES if hasattr(config_of(name), field)]


def predicting_pixels() -> list[str]:
  """Returns the recurrent models of the zoo, for those that predict frames ahead."""
  return [name for name in ZOO if all(d > 0 for d in zoo.build(name).displacements)]


@functools.cache
def built(name: str):
  """Returns a model, shaken parameters and observations `[T, B, ...]` with all flags."""
  model = zoo.build(config_of(name))
  rng = np.random.default_rng(0)
  inputs = {n: m for n, m in model.modalities.items() if m.config.use_input}
  observed = {n: jnp.asarray(m.random_observation(rng, (TICKS, ROWS))) for n, m in inputs.items()}
  observed |= {valid_key(n): jnp.ones((TICKS, ROWS), bool) for n in inputs}
  observed[IS_FIRST] = jnp.zeros((TICKS, ROWS), bool).at[0].set(True)
  params = with_quick_init(model).init(jax.random.key(0), at(observed, 0))
  return model, shaken(params), observed


@functools.cache
def unrolled(name: str):
  """Returns the start state, the outputs of all ticks and the state after them."""
  model, params, observed = built(name)
  state = model.initial_state(params, ROWS)
  return state, *model.unroll(params, state, observed)


def at(tree, index):
  return jax.tree.map(lambda x: x[index], tree)


@pytest.fixture(params=NAMES)
def name(request):
  return request.param


def test_unroll_equals_steps_and_any_split_and_does_not_look_ahead(name):
  model, params, observed = built(name)
  start, whole, last = unrolled(name)
  outputs, state = [], start
  for index in range(TICKS):
    output, state = model.step(params, state, at(observed, index))
    outputs.append(output)
  assert_close(whole, jax.tree.map(lambda *x: jnp.stack(x), *outputs))
  assert_close(last, state)
  head, middle = model.unroll(params, start, at(observed, np.s_[:HALF]))
  assert_close(at(whole, np.s_[:HALF]), head)  # made without the later ticks
  tail, end = model.unroll(params, middle, at(observed, np.s_[HALF:]))
  assert_close(at(whole, np.s_[HALF:]), tail)
  assert_close(last, end)


def test_later_observations_change_no_earlier_output(name):
  model, params, observed = built(name)
  start, whole, _ = unrolled(name)
  other = {
    n: v.at[-1].set(jnp.flip(v[-1], -1)) if n in model.modalities else v
    for n, v in observed.items()
  }
  changed, _ = model.unroll(params, start, other)
  for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(changed), strict=True):
    np.testing.assert_array_equal(a[:-1], b[:-1])
  assert not np.array_equal(whole.latents[-1], changed.latents[-1])


def test_a_reset_row_starts_afresh_and_the_other_continues(name):
  model, params, observed = built(name)
  start, plain, _ = unrolled(name)
  again = observed | {IS_FIRST: observed[IS_FIRST].at[HALF, 1].set(True)}
  reset, _ = model.unroll(params, start, again)
  fresh, _ = model.unroll(params, start, at(again, np.s_[HALF:]))
  assert_close(at(reset, np.s_[HALF:, 1]), at(fresh, np.s_[:, 1]))
  assert_close(at(reset, np.s_[:, 0]), at(plain, np.s_[:, 0]))
  forgot = not np.allclose(reset.latents[HALF:, 1], plain.latents[HALF:, 1], atol=1e-3)
  assert forgot != (name in STATELESS)


def test_rows_do_not_mix(name):
  model, params, observed = built(name)
  start, plain, _ = unrolled(name)
  other = {
    n: v.at[:, 1].set(jnp.flip(v[:, 1], -1)) if n in model.modalities else v
    for n, v in observed.items()
  }
  changed, _ = model.unroll(params, start, other)
  assert_close(at(plain, np.s_[:, 0]), at(changed, np.s_[:, 0]))
  assert not np.allclose(plain.latents[:, 1], changed.latents[:, 1], atol=1e-3)


def test_an_invalid_observation_may_hold_anything(name):
  model, params, observed = built(name)
  start, plain, _ = unrolled(name)
  for modality in sorted(set(observed) & set(model.modalities)):
    valid = observed[valid_key(modality)].at[HALF, 1].set(False)
    gone = observed | {valid_key(modality): valid}
    values = observed[modality]
    garbage = jnp.nan if jnp.issubdtype(values.dtype, jnp.floating) else 0
    one, _ = model.unroll(params, start, gone)
    two, _ = model.unroll(params, start, gone | {modality: values.at[HALF, 1].set(garbage)})
    assert_close(one, two)
    assert_close(at(one, np.s_[:, 0]), at(plain, np.s_[:, 0]))
    assert not np.allclose(one.latents[HALF:, 1], plain.latents[HALF:, 1], atol=1e-3), modality


@pytest.mark.parametrize("name", [n for n in NAMES if len(zoo.build(config_of(n)).modalities) > 1])
def test_an_absent_modality_equals_one_that_is_never_valid(name):
  model, params, observed = built(name)
  if "pixels" not in observed or len(set(observed) & set(model.modalities)) < 2:
    return  # it reads one modality only
  start = unrolled(name)[0]
  rest = {n: v for n, v in observed.items() if not n.startswith("pixels")}
  absent, _ = model.unroll(params, start, rest)
  masked, _ = model.unroll(
    params, start, observed | {"pixels_valid": jnp.zeros((TICKS, ROWS), bool)}
  )
  assert_close(absent, masked)


@functools.cache
def loss_and_gradient(name: str, **changes):
  """Returns a loss of latents and of predictions one displacement ahead, and its gradient."""
  _, params, observed = built(name)
  model = zoo.build(dataclasses.replace(config_of(name), **changes)) if changes else built(name)[0]

  def loss(params):
    state = model.initial_state(params, ROWS)
    output, _ = model.unroll(params, state, observed, model.displacements[-1:])
    return sum(jnp.mean(jnp.square(x)) for x in jax.tree.leaves(output))

  return jax.jit(jax.value_and_grad(loss))(params)


def test_gradients_are_finite_and_reach_every_parameter(name):
  untouched = []
  for path, gradient in jax.tree_util.tree_leaves_with_path(loss_and_gradient(name)[1]):
    assert np.all(np.isfinite(gradient)), jax.tree_util.keystr(path)
    if not np.any(np.asarray(gradient) != 0):
      untouched.append(jax.tree_util.keystr(path))
  assert not [path for path in untouched if not any(part in path for part in UNREACHED)]


@pytest.mark.parametrize("name", having("remat"))
def test_rematerialisation_changes_neither_values_nor_gradients(name):
  assert_close(loss_and_gradient(name), loss_and_gradient(name, remat=True))


def cells_of(model, name: str, whole):
  """Returns an output `[B, ...]` by cells of its query grid, `[B, Q, ...]`."""
  modality = model.modalities[name]
  if name == "audio" and modality.config.predict == "waveform":
    return whole.reshape(ROWS, -1, modality.config.patch)  # a cell is a patch of samples
  return modality.split(whole)


def test_decoding_some_cells_gives_those_of_whole_predictions(name):
  model, params, _ = built(name)
  _, whole, last = unrolled(name)
  displacement = model.displacements[-1]
  for output, modality in model.modalities.items():
    if not modality.config.use_output:
      continue
    cells = cells_of(model, output, whole.predictions[output][-1, :, -1])
    count = cells.shape[1]
    some = np.asarray([0, count - 1, count // 2])
    answers = model.decode(params, last, model.queries(output, float(displacement), some))[output]
    assert_close(answers, cells[:, some])
  ahead = (displacement,)
  assert_close(model.predict(params, last, ahead), at(whole.predictions, np.s_[-1, :, -1:]))


@pytest.mark.parametrize("name", having("decode_chunk"))
def test_decoding_in_chunks_equals_decoding_at_once(name):
  model, params, _ = built(name)
  last = unrolled(name)[2]
  ahead = (model.displacements[-1],)
  small = dataclasses.replace(config_of(name), decode_chunk=ROWS * 5)
  assert_close(model.predict(params, last, ahead), zoo.build(small).predict(params, last, ahead))


@pytest.mark.parametrize("name", having("bottleneck"))
def test_an_untrained_model_copies_the_last_observation(name):
  """In a still scene if its latents have positions: what moves is predicted to move on."""
  model, _, observed = built(name)
  if isinstance(config_of(name).core, PositionedConfig):
    observed = observed | {
      n: jnp.tile(v[:1], (TICKS, *[1] * (v.ndim - 1)))
      for n, v in observed.items()
      if n in model.modalities
    }
  params = model.init(jax.random.key(3), at(observed, 0))
  output, _ = model.unroll(params, model.initial_state(params, ROWS), observed)
  for modality, parts in model.modalities.items():
    copied = parts.copy(parts.preprocess(observed[modality]))
    for i in range(len(model.displacements)):
      np.testing.assert_allclose(output.predictions[modality][:, :, i], copied, atol=1e-5)


def test_the_second_call_does_not_compile(name):
  model, params, observed = built(name)
  _, state = model.step(params, unrolled(name)[0], at(observed, 0))
  fresh = at(observed, 1)
  compiled = []
  jax.monitoring.register_event_duration_secs_listener(
    lambda event, _, **kwargs: compiled.append(event) if "backend_compile" in event else None
  )
  for _ in range(2):
    _, state = model.step(params, state, fresh)
  assert not compiled


def test_the_program_does_not_grow_with_the_length(name):
  """Nor by more than a constant for each doubling, which a parallel scan needs."""
  model, params, observed = built(name)
  start = unrolled(name)[0]

  def size(ticks: int) -> int:
    some = jax.tree.map(lambda x: jnp.tile(x, (6,) + (1,) * (x.ndim - 1))[:ticks], observed)
    program = jax.make_jaxpr(lambda o: model.unroll(params, start, o))(some)
    inner = [
      e.params["jaxpr"] for e in program.jaxpr.eqns if hasattr(e.params.get("jaxpr"), "eqns")
    ]
    return len(program.jaxpr.eqns) + sum(len(jaxpr.eqns) for jaxpr in inner)

  assert size(24) - size(12) <= size(12) - size(6)


def test_the_state_keeps_its_shapes_and_dtypes(name):
  start, _, last = unrolled(name)
  kinds = lambda tree: jax.tree.map(lambda x: (x.shape, x.dtype), tree)  # noqa: E731
  assert kinds(start) == kinds(last)


@pytest.mark.parametrize("name", MIXTURES)
def test_bfloat16_is_close_and_keeps_the_state_in_float32(name):
  _, params, observed = built(name)
  config = dataclasses.replace(config_of(name), precision=Precision(compute="bfloat16"))
  exact = unrolled(name)[1]
  rough = zoo.build(config)
  near, state = rough.unroll(params, rough.initial_state(params, ROWS), observed)
  assert {x.dtype for x in jax.tree.leaves(state.latents)} <= {
    jnp.dtype("float32"),
    jnp.dtype("int32"),
  }
  assert np.max(np.abs(near.latents - exact.latents)) < 0.25
  for a, b in zip(
    jax.tree.leaves(near.predictions), jax.tree.leaves(exact.predictions), strict=True
  ):
    assert a.dtype == jnp.float32 and np.all(np.isfinite(a))
    assert np.mean(np.abs(a - b)) < 0.1 * (0.1 + np.mean(np.abs(b)))


@pytest.mark.parametrize("name", predicting_pixels())
def test_the_shared_objective_scores_it(name):
  model, params, _ = built(name)
  objective = FuturePrediction(model, ObjectiveConfig(window=2))
  rng = np.random.default_rng(1)
  window = {
    n: jnp.asarray(m.random_observation(rng, (objective.num_ticks, ROWS)))
    for n, m in model.modalities.items()
  }
  state = model.initial_state(params, ROWS)
  loss, aux = jax.jit(objective.loss)(params, state, window)
  assert np.isfinite(loss)
  assert_close(jax.tree.map(jnp.shape, aux.next_state), jax.tree.map(jnp.shape, state))
  assert set(aux.scores) == {f"{n}@{d}" for n in model.modalities for d in model.displacements}


@pytest.mark.parametrize("name", ZOO)
def test_fitting_to_a_stream(name):
  config, family = zoo.config(name), zoo.FAMILIES[name.split("/")[0]]
  specs = {n: m.spec for n, m in built(name)[0].modalities.items()}
  assert family.fit(config, specs) == config
  unknown = ModalitySpec(shape=(4,))
  with pytest.raises(ValueError, match=r"the stream has \['no_such_modality'\]"):
    family.fit(config, {"no_such_modality": unknown})


def test_the_mixtures_cover_every_modality():
  assert {type(m) for m in everything().modalities.values()} == {
    module.Config for module in (audio, depth, flow, pixels, segmentation, vector)
  }
  assert math.prod(built("per_pixel")[0].modalities["pixels"].grid_shape()) == 24
