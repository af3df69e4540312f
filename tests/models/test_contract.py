"""The streaming contract, for every kind of model: what `step`, `unroll` and `decode` promise."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import perceiver_stream
from perceiver_stream.core import GatedConfig, PredictCorrectConfig
from perceiver_stream.modalities import audio, depth, flow, pixels, segmentation, vector
from perceiver_stream.models.stream_perceiver import Config
from perceiver_stream.nn import Precision

ROWS, TICKS = 2, 6


def tiny(core=None, **modalities) -> Config:
  return Config(
    modalities=modalities or {"pixels": frame()},
    core=core or PredictCorrectConfig(num_latents=5, latent_dim=8, num_heads=2),
    token_dim=8,
    query_dim=8,
    num_decoder_heads=2,
    displacements=(1, 4),
  )


def frame(**options) -> pixels.Config:
  return pixels.Config(**({"height": 8, "width": 12, "patch": 4} | options))


def everything() -> Config:
  size = {"height": 8, "width": 8, "patch": 4}
  return tiny(
    pixels=frame(),
    audio=audio.Config(),
    depth=depth.Config(**size),
    flow=flow.Config(**size),
    labels=segmentation.Config(**size, num_classes=4),
    pose=vector.Config(size=3),
  )


def gated_and_conv() -> Config:
  return tiny(
    GatedConfig(num_latents=5, latent_dim=8, num_heads=2, num_layers=1),
    pixels=frame(tokenizer="conv", conv_channels=(4, 6)),
    audio=audio.Config(tokenizer="patch", predict="waveform"),
  )


CONFIGS = {
  "everything": everything,
  "gated_and_conv": gated_and_conv,
  "per_pixel": lambda: tiny(pixels=frame(height=4, width=6, tokenizer="pixel", patch=1)),
}


@functools.cache
def built(name: str, compute: str = "float32", **changes):
  """Returns a model, shaken parameters and observations `[T, B, ...]`."""
  precision = Precision(compute=compute)
  config = dataclasses.replace(CONFIGS[name](), precision=precision, **changes)
  model = perceiver_stream.build(config)
  rng = np.random.default_rng(0)
  watched = {n: jnp.asarray(m.fake(rng, (TICKS, ROWS))) for n, m in model.modalities.items()}
  params = model.init(jax.random.key(0), first(watched))
  return model, shaken(params), watched


@jax.jit
def shaken(params):
  """Returns parameters with noise, so that no zero that one starts with hides anything."""
  leaves, treedef = jax.tree.flatten(params)
  keys = jax.random.split(jax.random.key(1), len(leaves))
  noisy = [x + 0.1 * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys, strict=True)]
  return treedef.unflatten(noisy)


def first(observations: dict, tick: int = 0) -> dict:
  return {name: value[tick] for name, value in observations.items()}


def close(one, other, atol=1e-4):
  assert jax.tree.structure(one) == jax.tree.structure(other)
  for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
    np.testing.assert_allclose(np.asarray(a, np.float32), np.asarray(b, np.float32), atol=atol)


@pytest.fixture(params=CONFIGS)
def name(request):
  return request.param


def test_unroll_is_steps_is_any_split(name):
  model, params, watched = built(name)
  state = model.initial_state(params, ROWS)
  whole, last = model.unroll(params, state, watched)
  outputs, stepped = [], state
  for tick in range(TICKS):
    output, stepped = model.step(params, stepped, first(watched, tick))
    outputs.append(output)
  close(whole, jax.tree.map(lambda *x: jnp.stack(x), *outputs))
  close(last, stepped)
  head, middle = model.unroll(params, state, {n: v[:3] for n, v in watched.items()})
  tail, end = model.unroll(params, middle, {n: v[3:] for n, v in watched.items()})
  close(whole, jax.tree.map(lambda a, b: jnp.concatenate([a, b]), head, tail))
  close(last, end)


def test_the_past_does_not_know_the_future(name):
  model, params, watched = built(name)
  state = model.initial_state(params, ROWS)
  before, _ = model.unroll(params, state, watched)
  changed = {
    n: v.at[4:].set(v[4:][::-1] // 2 if n == "labels" else v[4:] * 0) for n, v in watched.items()
  }
  after, _ = model.unroll(params, state, changed)
  for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
    np.testing.assert_array_equal(a[:4], b[:4])
  assert not np.array_equal(before.latents[4:], after.latents[4:])


def test_a_reset_row_starts_afresh_and_the_other_goes_on(name):
  model, params, watched = built(name)
  state = model.initial_state(params, ROWS)
  is_first = jnp.zeros((TICKS, ROWS), bool).at[3, 1].set(True)
  reset, _ = model.unroll(params, state, watched | {"is_first": is_first})
  plain, _ = model.unroll(params, state, watched)
  fresh, _ = model.unroll(params, state, {n: v[3:] for n, v in watched.items()})
  close(jax.tree.map(lambda x: x[3:, 1], reset), jax.tree.map(lambda x: x[:, 1], fresh))
  close(jax.tree.map(lambda x: x[:, 0], reset), jax.tree.map(lambda x: x[:, 0], plain))
  assert not np.allclose(reset.latents[3:, 1], plain.latents[3:, 1], atol=1e-3)


def test_rows_do_not_mix(name):
  model, params, watched = built(name)
  both, _ = model.unroll(params, model.initial_state(params, ROWS), watched)
  alone, _ = model.unroll(
    params, model.initial_state(params, 1), {n: v[:, 1:] for n, v in watched.items()}
  )
  close(jax.tree.map(lambda x: x[:, 1:], both), alone)


def test_absent_is_masked_is_rubbish(name):
  """A modality that is absent and one that is invalid everywhere mean the same, NaN included."""
  model, params, watched = built(name)
  if len(watched) < 2:
    pytest.skip("one modality cannot be left out")
  state = model.initial_state(params, ROWS)
  gone = next(iter(watched))
  rest = {n: v for n, v in watched.items() if n != gone}
  absent, _ = model.unroll(params, state, rest)
  nothing = jnp.zeros((TICKS, ROWS), bool)
  masked, _ = model.unroll(params, state, watched | {f"{gone}_valid": nothing})
  close(absent, masked)
  if jnp.issubdtype(watched["audio"].dtype, jnp.floating):
    rubbish = {"audio": watched["audio"] * jnp.nan, "audio_valid": nothing}
    output, _ = model.unroll(params, state, watched | rubbish)
    assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(output))


def test_one_missing_row_leaves_the_other_untouched(name):
  model, params, watched = built(name)
  gone = next(iter(watched))
  valid = jnp.ones((TICKS, ROWS), bool).at[:, 1].set(False)
  state = model.initial_state(params, ROWS)
  plain, _ = model.unroll(params, state, watched)
  half, _ = model.unroll(params, state, watched | {f"{gone}_valid": valid})
  close(jax.tree.map(lambda x: x[:, 0], plain), jax.tree.map(lambda x: x[:, 0], half))
  assert not np.allclose(plain.latents[:, 1], half.latents[:, 1], atol=1e-3)


@functools.cache
def learnt_from(name, **changes):
  """Returns a loss of predictions and latents, and its gradient."""
  _, params, watched = built(name)
  model, _, _ = built(name, **changes)

  def loss(params):
    output, _ = model.unroll(params, model.initial_state(params, ROWS), watched, (4,))
    return sum(jnp.mean(jnp.square(x)) for x in jax.tree.leaves(output))

  return jax.jit(jax.value_and_grad(loss))(params)


def test_remat_changes_neither_values_nor_gradients(name):
  close(learnt_from(name), learnt_from(name, remat=True), atol=1e-4)


def test_gradients_are_finite_and_reach_every_parameter(name):
  for path, gradient in jax.tree_util.tree_leaves_with_path(learnt_from(name)[1]):
    assert np.all(np.isfinite(gradient)), jax.tree_util.keystr(path)
    assert np.any(np.asarray(gradient) != 0), f"no gradient: {jax.tree_util.keystr(path)}"


def test_decoding_in_chunks_or_in_part_is_decoding(name):
  model, params, watched = built(name)
  chunked, _, _ = built(name, decode_chunk=ROWS * 5)
  _, state = model.unroll(params, model.initial_state(params, ROWS), watched, ())
  whole = model.predict(params, state, (3,))
  close(whole, chunked.predict(params, state, (3,)))
  for modality, parts in model.modalities.items():
    full = model.decode(params, state, model.queries(modality, 3.0))[modality]
    cells = np.arange(len(parts.query_grid()))[::-2]
    some = model.decode(params, state, model.queries(modality, 3.0, cells))[modality]
    close(full[:, cells], some)
    close(parts.assemble(full), whole[modality][:, 0])


def test_untrained_model_is_copy_last(name):
  model, _, watched = built(name)
  params = model.init(jax.random.key(3), first(watched))
  output, _ = model.unroll(params, model.initial_state(params, ROWS), watched)
  for modality, parts in model.modalities.items():
    copied = parts.copy(parts.canonical(watched[modality]))
    for i in range(len(model.displacements)):
      np.testing.assert_allclose(output.predictions[modality][:, :, i], copied, atol=1e-6)


def test_second_call_does_not_compile(name):
  model, params, watched = built(name)
  state = model.initial_state(params, ROWS)
  _, state = model.step(params, state, first(watched))
  compiled = []
  jax.monitoring.register_event_duration_secs_listener(
    lambda event, _, **kwargs: compiled.append(event) if "backend_compile" in event else None
  )
  fresh = {n: v[1] for n, v in watched.items()}
  compiled.clear()
  for _ in range(2):
    _, state = model.step(params, state, fresh)
  assert not compiled


def test_the_program_does_not_grow_with_the_length(name):
  model, params, watched = built(name)
  state = model.initial_state(params, ROWS)

  def size(ticks: int) -> int:
    some = {n: jnp.concatenate([v] * 4)[:ticks] for n, v in watched.items()}
    program = jax.make_jaxpr(lambda o: model.unroll(params, state, o))(some)
    return len(program.jaxpr.eqns) + sum(
      len(e.params["jaxpr"].eqns)
      for e in program.jaxpr.eqns
      if hasattr(e.params.get("jaxpr"), "eqns")
    )

  assert size(3) == size(24)


def test_bfloat16_is_close_and_keeps_the_state_in_float32(name):
  model, params, watched = built(name)
  rough, _, _ = built(name, "bfloat16")
  exact, _ = model.unroll(params, model.initial_state(params, ROWS), watched)
  near, state = rough.unroll(params, rough.initial_state(params, ROWS), watched)
  assert state.latents.dtype == jnp.float32
  assert np.max(np.abs(near.latents - exact.latents)) < 0.25
  for a, b in zip(
    jax.tree.leaves(near.predictions), jax.tree.leaves(exact.predictions), strict=True
  ):
    assert a.dtype == jnp.float32 and np.all(np.isfinite(a))
    assert np.mean(np.abs(a - b)) < 0.1 * (0.1 + np.mean(np.abs(b)))


def test_state_has_the_same_shapes_after_any_number_of_ticks(name):
  model, params, watched = built(name)
  state = model.initial_state(params, ROWS)
  _, after = model.unroll(params, state, watched, ())
  assert jax.tree.map(lambda x: (x.shape, x.dtype), state) == jax.tree.map(
    lambda x: (x.shape, x.dtype), after
  )
