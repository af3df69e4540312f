"""All staged models: what any of them promises when it is cut, run and taught."""

import dataclasses
import functools
import importlib
import pkgutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import staged_models

from perceiver_stream import zoo
from perceiver_stream.core import PositionedConfig
from perceiver_stream.execution import Pipeline, gradients, nets, partition
from perceiver_stream.modalities import pixels
from perceiver_stream.models.stages import Staged
from perceiver_stream.models.stream_perceiver import BottleneckConfig

TICKS = 6


@functools.cache
def case(name):
  """Returns a model, parameters that all count, and frames."""
  made = staged_models.CASES[name]()
  params = staged_models.drawn(jax.eval_shape(partition(made.staged).init, jax.random.key(0)))
  ticks = 2 * len(made.staged.layers)
  return made, params, staged_models.frames_of(made.staged, ticks)


def close(one, other, atol):
  pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
  for a, b in pairs:
    a, b = np.asarray(a), np.asarray(b)
    np.testing.assert_allclose(a, b, rtol=0, atol=atol * max(1.0, float(np.max(np.abs(b)))))


def cropped(tree, ticks):
  return jax.tree.map(lambda x: np.asarray(x)[:ticks], tree)


def test_the_list_has_them_all():
  """Every network of frames, and every family of the zoo that can be cut, is in it."""
  found = {name for name, family in zoo.FAMILIES.items() if family.stages}
  for module in pkgutil.iter_modules(nets.__path__):
    if hasattr(importlib.import_module(f"{nets.__name__}.{module.name}"), "staged"):
      found.add(module.name)
  assert found == set(staged_models.CASES)


def loss(answer, target):
  del target
  return jnp.stack([jnp.mean(jnp.square(x - 0.3)) for x in jax.tree.leaves(answer)]).sum()


def taught(made, params):
  """Returns `frames -> answers of every tick, gradients of the last`, by Sideways.

  Between two halves all that is carried is put aside as plain arrays.
  """
  teach = gradients("sideways", made, loss)

  def tick(carry, frame):
    told, flowing = teach.step(params, carry[0], frame, ())
    return (flowing, told.gradients), told.answer

  first = jax.jit(lambda p: (teach.initial(p, 2), jax.tree.map(jnp.zeros_like, p)))
  half = jax.jit(lambda carry, frames: jax.lax.scan(tick, carry, frames))

  def run(frames):
    carry, answers = first(params), []
    ticks = next(iter(frames.values())).shape[0]
    for some in (slice(ticks // 2), slice(ticks // 2, None)):
      carry = jax.tree.map(np.array, carry)
      carry, more = half(carry, {name: x[some] for name, x in frames.items()})
      answers.append(more)
    return jax.tree.map(lambda *x: np.concatenate(x), *answers), carry[1]

  return run


def still(frames):
  """Returns frames that do not move; what remembers begins anew, so that its state stands still."""
  found = {name: np.broadcast_to(x[:1], x.shape) for name, x in frames.items()}
  return found | ({"is_first": np.ones_like(found["is_first"])} if "is_first" in found else {})


@functools.cache
def whole(name):
  """Returns what backprop tells of the first frame, in one stage."""
  made, params, frames = case(name)
  rule = gradients("backprop", partition(made.staged, 1), loss)
  frame = jax.tree.map(lambda x: x[0], still(frames))
  return jax.jit(lambda p, f: rule.step(p, rule.initial(p, 2), f, ())[0])(params, frame)


@pytest.mark.parametrize("name", staged_models.CASES)
def test_every_layer_a_stage_is_the_model_itself_late_and_still_frames_teach_it_as_backprop(name):
  """The answer is D - 1 ticks late; the gradient is exact when it has been there and back."""
  made, params, frames = case(name)
  run = taught(partition(made.staged, fresh=False), params)
  answers, _ = run(frames)
  delay, ticks = len(made.staged.layers) - 1, next(iter(frames.values())).shape[0]
  expected = jax.tree.map(np.asarray, made.run(params, frames))
  assert all(np.std(x) > 1e-3 for x in jax.tree.leaves(expected))
  close(jax.tree.map(lambda x: x[delay:], answers), cropped(expected, ticks - delay), 1e-4)
  close(whole(name).answer, jax.tree.map(lambda x: x[0], expected), 1e-4)
  _, found = run(still(frames))
  close(found, whole(name).gradients, 1e-5)
  assert np.mean([np.any(np.asarray(x) != 0) for x in jax.tree.leaves(found)]) > 0.8


@pytest.mark.parametrize("name", ["densenet", "inception"])
def test_where_nothing_moves_shortcuts_may_be_fresh(name):
  made, params, frames = case(name)
  _, found = taught(partition(made.staged), params)(still(frames))
  close(found, whole(name).gradients, 1e-5)


@pytest.mark.parametrize("name", ["stream_perceiver", "moog", "rvm"])
def test_parameters_are_those_of_the_model(name):
  made, params, frames = case(name)
  config = getattr(staged_models, f"{name}_config")()
  frame = jax.tree.map(lambda x: x[0], frames)
  own = jax.eval_shape(zoo.build(config).init, jax.random.key(0), frame)
  assert len(params) > 10
  told = lambda tree: {m: {n: x.shape for n, x in v.items()} for m, v in tree.items()}  # noqa: E731
  assert told(params) == told(own)


POSITIONS = {
  "core": PositionedConfig(num_latents=4, latent_dim=8, num_heads=2),
  "modalities": {"pixels": pixels.Config(height=8, width=8)},
}


@pytest.mark.parametrize("changes", [{}, POSITIONS], ids=["pose", "positions"])
def test_queries_that_see_nothing_see_nothing_in_layers_either(changes):
  """The motion of latents with positions reaches the heads all the same."""
  config = staged_models.stream_perceiver_config()
  config = dataclasses.replace(
    config,
    bottleneck=BottleneckConfig(condition_queries_on_input=False),
    **changes,
  )
  made = staged_models.of_zoo(config)
  once = partition(made.staged, 1)
  params = staged_models.drawn(jax.eval_shape(once.init, jax.random.key(0)))
  params = jax.tree.map(jnp.asarray, params)
  frames = staged_models.frames_of(made.staged, 6)
  pipeline = Pipeline(once)
  registers = pipeline.initial(params, staged_models.ROWS)
  answers, _ = jax.jit(pipeline.unroll)(params, registers, frames)
  close(answers, made.run(params, frames), 1e-5)


def test_bundled_weights_flow_through_a_pipeline():
  model, params = zoo.load("moog/tiny_world")
  pipeline = Pipeline(partition(zoo.staged(model.config)))
  frame = {
    n: jax.ShapeDtypeStruct((1, *s.shape[1:]), s.dtype)
    for n, s in pipeline.partition.staged.inputs.items()
  }
  registers = jax.eval_shape(pipeline.initial, params)
  answer, _ = jax.eval_shape(pipeline.step, params, registers, frame)
  assert answer["predictions"]["pixels"].shape == (1, 1, 64, 64, 3)


def test_a_core_that_pulls_at_the_decoder_stays_with_it():
  """MooG's loss gradient: core and decoder can be one stage, and no less."""
  config = staged_models.moog_config(use_loss_gradient=True)
  made = staged_models.of_zoo(config)
  names = [layer.name for layer in made.staged.layers]
  with pytest.raises(ValueError, match="'decoder_0' of moog shares the parameters 'moog/decoder/"):
    partition(made.staged)
  pipeline = Pipeline(partition(made.staged, tuple(range(1, names.index("core") + 1)), fresh=False))
  params = staged_models.drawn(jax.eval_shape(pipeline.partition.init, jax.random.key(0)))
  frames = staged_models.frames_of(made.staged, TICKS)
  late, _ = jax.jit(lambda p, f: pipeline.unroll(p, pipeline.initial(p, 2), f))(params, frames)
  expected = cropped(made.run(params, frames), TICKS - pipeline.delay)
  close(jax.tree.map(lambda x: np.asarray(x)[pipeline.delay :], late), expected, 1e-4)
  with pytest.raises(
    ValueError, match="moog: stages end in predictions, but config.decoder is None"
  ):
    zoo.staged(staged_models.moog_config(decoder=None))


def test_shortcuts_are_what_may_be_fresher():
  shortcuts = {name: case(name)[0].staged.shortcuts for name in staged_models.CASES}
  assert shortcuts["moog"] == {"ahead"} and shortcuts["rvm"] == {"sources"}
  assert shortcuts["densenet"] == {"densenet_stem", "densenet_0_0", "densenet_transition_0"}
  assert shortcuts["inception"] == {"inception_0_shallow", "inception_0_middle"}
  fives = staged_models.inception.staged(staged_models.INCEPTION, 8, 8)
  assert isinstance(fives, Staged)
  assert [len(layer.reads) for layer in fives.layers] == [1, 1, 1, 3, 1, 3]
