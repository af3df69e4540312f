"""Learning by pipelines through the ordinary loop: the same loss, other executions, all resumable."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_stream import training, zoo
from perceiver_stream.core import PredictCorrectConfig
from perceiver_stream.files.codec import to_dict
from perceiver_stream.modalities import pixels
from perceiver_stream.models.moog import objective as next_frame
from perceiver_stream.models.stream_perceiver.config import BottleneckConfig, Config
from perceiver_stream.streams import synthetic
from perceiver_stream.training import objectives, pipelined_training
from perceiver_stream.training.checkpoints import Checkpoints
from perceiver_stream.training.config import differences
from perceiver_stream.training.loop import Learner
from perceiver_stream.training.parts import make_parts

SIDE, HOP = 8, 3


def make_config(execution="sequential", run_dir="unused", **fields):
  model = Config(
    modalities={"pixels": pixels.Config(height=SIDE, width=SIDE, patch=4, motion_levels=1)},
    core=PredictCorrectConfig(num_latents=3, latent_dim=8, num_heads=2),
    token_dim=8,
    query_dim=8,
    num_decoder_heads=2,
    displacements=(1, 2),
  )
  config = training.ExperimentConfig(
    model=model,
    stream=synthetic.Config(height=SIDE, width=SIDE, modalities=("pixels",), max_ticks=40),
    objective=training.ObjectiveConfig(window=HOP),
    use_baselines=False,
    execution=execution,
    num_rows=2,
    run_dir=str(run_dir),
    **fields,
  )
  config.optimizer.learning_rate = 1e-3
  return config


@functools.cache
def watched():
  """Returns successive windows of the synthetic world."""
  return list(make_parts(make_config()).windows)


@pytest.mark.parametrize("execution", ["pipelined", "sideways"])
def test_a_run_goes_on_from_a_checkpoint_to_the_last_bit(execution, tmp_path):
  learner = Learner(make_parts(make_config(execution)))
  first = jax.tree.map(np.asarray, learner.trees())
  for window in watched()[:2]:
    learner.learn(window)
  with Checkpoints(tmp_path, training.CheckpointConfig()) as saved:
    saved.save(2, learner.trees(), {}, 0.0)
    saved.wait()
    infos = [learner.learn(window) for window in watched()[2:5]]
    straight = jax.tree.map(np.asarray, learner.trees())
    restored = saved.restore(learner.trees())
  assert restored is not None
  learner.load(restored.trees)
  again = [learner.learn(window) for window in watched()[2:5]]
  jax.tree.map(np.testing.assert_array_equal, jax.tree.map(np.asarray, learner.trees()), straight)
  assert [float(i.loss) for i in infos] == [float(i.loss) for i in again]
  assert all(bool(i.finite) for i in again) and float(again[-1].grad_norm) > 0
  changed = jax.tree.map(lambda a, b: np.any(a != b), first["params"], straight["params"])
  assert any(jax.tree.leaves(changed))


@pytest.mark.parametrize("back", [False, True])
def test_one_stage_is_the_ordinary_objective(back):
  """Loss, scores, images and gradient, over two windows, with a new recording and a cut in between.

  With `reconstruct_motion` the baseline of displacement 0 is the frame before, which a cut resets.
  """
  config = make_config()
  if back:
    frames = dataclasses.replace(config.model.modalities["pixels"], reconstruct_motion=True)
    config.model = dataclasses.replace(
      config.model,
      modalities={"pixels": frames},
      displacements=(0, 2),
      bottleneck=BottleneckConfig(condition_queries_on_input=False),
    )
  model = zoo.build(config.model)
  plain = objectives.make(model, config.objective)
  piped = pipelined_training.pipelined(plain, make_config("pipelined", num_stages=1))
  windows = [{n: jnp.asarray(x) for n, x in w.items() if n != "ended"} for w in watched()[:2]]
  windows = [{n: w[n] for n in ("pixels", "is_first")} for w in windows]
  windows[0]["is_first"] = windows[0]["is_first"].at[2, 1].set(True)
  noise = np.random.default_rng(0).integers(0, 255, windows[0]["pixels"].shape[2:])
  windows[0]["pixels"] = windows[0]["pixels"].at[3:, 0].set(noise.astype(np.uint8))
  params = jax.jit(model.init)(jax.random.key(0), {"pixels": windows[0]["pixels"][0]})
  params = jax.tree.map(lambda x: x + 0.1 * jax.random.normal(jax.random.key(1), x.shape), params)
  states = [model.initial_state(params, 2), piped.initial_state(params, 2)]
  cut = model.observe(params, states[0], windows[0])[0].memory["pixels"]
  np.testing.assert_array_equal(cut.previous[3, 0], cut.last[3, 0])
  both = [jax.jit(o.loss_and_grad) for o in (plain, piped)]
  for window in windows:
    (one, a), (two, b) = (f(params, s, window) for f, s in zip(both, states, strict=True))
    states = [one[1].next_state, two[1].next_state]
    told = [(r[0], r[1].scores, r[1].predictions) for r in (one, two)]
    for x, y in zip(jax.tree.leaves((told[0], a)), jax.tree.leaves((told[1], b)), strict=True):
      np.testing.assert_allclose(x, y, rtol=2e-3, atol=2e-4)


@pytest.mark.parametrize("model", ["moog/nano", "rvm/nano"])
def test_published_families_learn_by_pipelines_too(model):
  """Loss, scores and gradients of all their parameters are there, in what a window teaches."""
  chosen = zoo.config(model)
  chosen.height = chosen.width = SIDE
  chosen.decoder = _deeper(chosen.decoder)
  if model == "rvm/nano":
    chosen.base_grid = (2, 2)
  parts = make_parts(dataclasses.replace(make_config("skip_sideways"), model=chosen))
  window = {n: jnp.asarray(x) for n, x in watched()[0].items() if n in ("pixels", "is_first")}

  def taught(window):
    params = parts.objective.init_params(jax.random.key(0), {"pixels": window["pixels"][0]})
    state = parts.objective.initial_state(params, 2)
    (loss, aux), found = parts.objective.loss_and_grad(params, state, window)
    return params, found, (loss, state, aux)

  params, found, (loss, state, aux) = jax.eval_shape(taught, window)
  assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, found)
  assert jax.tree.map(jnp.shape, state) == jax.tree.map(jnp.shape, aux.next_state)
  assert set(aux.scores) == {f"pixels@{d}" for d in chosen.displacements} and loss.shape == ()


def _deeper(decoder):
  """Returns a decoder of two blocks, so that there is something to skip."""
  if hasattr(decoder, "stack"):
    stack = dataclasses.replace(decoder.stack, num_layers=2)
    return dataclasses.replace(decoder, stack=stack)
  return dataclasses.replace(decoder, num_layers=2)


def test_a_pair_counts_once_the_pipe_is_full():
  since = pipelined_training.ticks_since_reset(
    jnp.array([-1, 7]), jnp.zeros((4, 2), bool).at[2, 1].set(True)
  )
  assert since.T.tolist() == [[0, 1, 2, 3], [8, 9, 0, 1]]


def test_runs_of_older_versions_were_sequential():
  new = to_dict(make_config())
  old = {name: value for name, value in new.items() if name not in ("execution", "num_stages")}
  assert differences(old, new) == []
  told = differences(old, to_dict(make_config("sideways")))
  assert told == ["execution: sequential -> sideways"]


@pytest.mark.parametrize(
  ("make", "told"),
  [
    (lambda: make_config("backwards"), "execution='backwards' is not one of"),
    (lambda: make_config(num_stages=2), "num_stages=2 with execution=sequential"),
    (lambda: make_config("pipelined", num_stages=-1), "num_stages=-1"),
    (
      lambda: make_parts(make_config("pipelined", num_stages=9)),
      "stream_perceiver has 5 layers and cannot be cut into 9 stages",
    ),
    (
      lambda: make_parts(make_config("skip_sideways", num_stages=2)),
      "no shortcut of stream_perceiver goes past a stage when it is cut into 2",
    ),
    (
      lambda: zoo.staged("perceiver_flow/nano"),
      r"a perceiver_flow is not staged: its depth is no list .* \['moog', 'rvm', 'stream_perceiver'\]",
    ),
    (
      lambda: make_parts(
        dataclasses.replace(
          make_config("sideways"), model="moog/nano", objective=next_frame.Config()
        )
      ),
      "execution=sideways: NextFrame has no pipelined form",
    ),
  ],
)
def test_what_cannot_be_is_told(make, told):
  with pytest.raises(ValueError, match=told):
    make()
