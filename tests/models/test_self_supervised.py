"""Every self-supervised method: gradients, rows that do not count, exact states, errors."""

import dataclasses
import functools

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_stream import training, zoo
from perceiver_stream.models.self_supervised import METHODS, methods, network, objective, views
from perceiver_stream.models.self_supervised.methods import queue
from perceiver_stream.models.self_supervised.variants import FAMILY
from perceiver_stream.models.towers import TowerOutput
from perceiver_stream.nn.debiased_batch_norm import batch_norm
from perceiver_stream.nn.layers import Linear
from perceiver_stream.streams import pulses
from perceiver_stream.training.checkpoints import CheckpointConfig, Checkpoints
from perceiver_stream.training.objectives import make as make_objective
from perceiver_stream.training.parts import make_parts

ROWS, SIDE, TICKS = 4, 8, 8
NAMES = tuple(METHODS)
each_method = pytest.mark.parametrize("name", NAMES)


class SmallTower(hk.Module):
  """A tower that compiles in little time: a linear map of patches, a batch norm and a ReLU."""

  def __init__(self, config, *, name):
    super().__init__(name=name)
    self.dim = config.stage_channels[-1]

  def __call__(self, clips, mode):
    rows, ticks, height, width, _ = clips.shape
    cut = clips.reshape(rows, ticks, 2, height // 2, 2, width // 2, -1)
    x = Linear(self.dim, name="linear")(cut.mean(axis=(3, 5)))
    x = jax.nn.relu(batch_norm(x, mode, name="norm"))
    return TowerOutput(jnp.mean(x, axis=(1, 2, 3)), {"last": x})


@pytest.fixture(autouse=True)
def small_towers(monkeypatch):
  """Methods do not depend on the tower; `tests/configs` trains one with the true one."""
  monkeypatch.setattr(network, "ResNetV2", SmallTower)


def window_of(seed=0):
  rng = np.random.default_rng(seed)
  lead = (TICKS, ROWS)
  return {
    "pixels": jnp.asarray(rng.integers(0, 256, (*lead, SIDE, SIDE, 3)), jnp.uint8),
    "audio": jnp.asarray(rng.uniform(-1, 1, (*lead, 200)), jnp.float32),
    "caption": jnp.asarray(rng.integers(0, 17, (*lead, 4)), jnp.int32),
    "label": jnp.asarray(rng.integers(0, 4, lead), jnp.int32),
    "is_first": jnp.zeros(lead, bool).at[0].set(True),
    **{f"{n}_valid": jnp.ones(lead, bool) for n in ("pixels", "audio", "caption", "label")},
  }


@functools.cache
def made(name):
  """Returns an objective, one compiled program of its loss, parameters and the first state."""
  config = objective.Config(
    window=TICKS, side=SIDE, hop=100, augment=False, method=METHODS[name].nano()
  )
  found = make_objective(zoo.build(FAMILY.variants["nano"]()), config)
  shapes = jax.eval_shape(lambda key: found.init_params(key, {}), jax.random.key(0))
  rng = np.random.default_rng(0)
  params = jax.tree.map(lambda x: jnp.asarray(0.3 * rng.normal(size=x.shape), x.dtype), shapes)
  state = found.initial_state(params, ROWS, jax.random.key(1))
  learn = jax.jit(found.loss_and_grad)
  return found, learn, params, state


def twice(name, window, state=None):
  """Returns the results of two windows, the second from the state after the first."""
  _, learn, params, first = made(name)
  state, results = first if state is None else state, []
  for i in range(2):
    results.append(learn(params, state, window, jax.random.key(i)))
    state = results[-1][0][1].next_state
  return results


def same(one, other):
  jax.tree.map(np.testing.assert_array_equal, one, other)


@each_method
def test_losses_are_finite_and_their_gradients_reach_every_part(name):
  (_, ((loss, aux), gradients)) = twice(name, window_of())
  assert np.isfinite(loss) and loss > 0
  for module in {path.split("/")[0] for path in gradients}:
    leaves = [
      x
      for path, part in gradients.items()
      for leaf, x in part.items()
      if path.split("/")[0] == module and leaf != "embeddings"  # frozen word vectors
    ]
    assert all(np.all(np.isfinite(x)) for x in leaves)
    assert any(np.any(np.asarray(x) != 0) for x in leaves), module
  score = aux.scores["method@0"]
  assert score.valid.all() and np.all(np.asarray(score.baselines["uniform"]) > 0)
  assert np.isfinite(aux.scores["collapse_std@0"].model).all()


@each_method
def test_rows_that_lack_an_observation_or_span_recordings_change_nothing(name):
  found, window, results = made(name)[0], window_of(), []
  need = found.needs[-1]
  window[f"{need}_valid"] = window[f"{need}_valid"].at[3, 1].set(False)
  window["is_first"] = window["is_first"].at[5, 2].set(True)
  for fill in (0, 1):
    spoiled = window | {
      key: window[key].at[3, 1].set(jnp.nan if fill and key == "audio" else fill)
      for key in ("pixels", "audio", "caption", "label")
    }
    spoiled["pixels"] = spoiled["pixels"].at[6:, 2].set(7 * fill)
    results.append(twice(name, spoiled))
  same(*results)
  (loss, aux), gradients = results[1][1]
  assert aux.scores["method@0"].valid.tolist() == [[True, False, False, True]]
  assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves((loss, aux.next_state, gradients)))


@each_method
def test_a_window_with_fewer_than_two_whole_rows_counts_for_nothing(name):
  _, learn, params, state = made(name)
  window = window_of()
  window["pixels_valid"] = window["pixels_valid"].at[0, 1:].set(False)
  (loss, aux), gradients = learn(params, state, window, jax.random.key(0))
  assert loss == 0 and not aux.scores["method@0"].valid.any()
  assert all(not np.any(x) for x in jax.tree.leaves(gradients))
  same(aux.next_state, state)


@each_method
def test_the_same_follows_from_a_checkpoint(name, tmp_path):
  found, learn, params, state = made(name)
  first, second = twice(name, window_of())
  after = first[0][1].next_state
  store = Checkpoints(tmp_path, CheckpointConfig())
  store.save(1, {"learner": after}, {}, 0.0)
  store.wait()
  restored = store.restore({"learner": state})
  store.close()
  assert restored is not None
  same(learn(params, restored.trees["learner"], window_of(), jax.random.key(1)), second)
  assert int(after.windows) == 1
  same(found.watched_state(state, after), state)


@each_method
def test_a_missing_modality_is_refused_by_name(name):
  found, _, params, state = made(name)
  need = found.needs[-1]
  window = {key: x for key, x in window_of().items() if not key.startswith(need)}
  with pytest.raises(ValueError, match=rf"method {name} reads .*the window has no \['{need}'\]"):
    jax.eval_shape(found.loss, params, state, window, jax.random.key(0))
  config = training.load_config(f"self_supervised:nano_{name}")
  others = tuple(set(config.stream.modalities) - {need})
  config.stream = dataclasses.replace(config.stream, modalities=others)
  with pytest.raises(ValueError, match=rf"needs \['{need}'\], but the stream gives"):
    make_parts(config)


@each_method
def test_configs_of_methods_are_found_and_round_trip(name):
  config = training.load_config(f"self_supervised:{name}")
  assert type(config.objective.method) is METHODS[name].config_type
  assert name in config.run_dir and config.num_rows == 32
  assert training.config.from_json(training.config.to_json(config)) == config


def test_features_do_not_depend_on_other_rows_or_on_sound():
  found, _, params, _ = made("clip")
  assert isinstance(found, objective.SelfSupervised)
  state = twice("clip", window_of())[1][0][1].next_state
  window = {key: x for key, x in window_of().items() if key.startswith(("pixels", "is_first"))}
  features = found.clip_features(params, state, window)
  assert features.shape == (ROWS, 8)
  other = window | {"pixels": window["pixels"].at[:, 1].set(0)}
  np.testing.assert_array_equal(found.clip_features(params, state, other)[2], features[2])


def test_shuffled_sound_is_that_of_the_next_row_that_counts():
  window = window_of()
  valid = jnp.array([True, False, True, True])
  moments = [
    views.Moments(views.Config(side=SIDE, hop=100), window, valid, None, {}, shuffled=shuffled)
    for shuffled in (False, True)
  ]
  assert moments[0].partner.tolist()[0] == 2 and moments[0].partner.tolist()[2:] == [3, 0]
  plain, shuffled = (m.sound() for m in moments)
  np.testing.assert_array_equal(shuffled[0], plain[2])
  np.testing.assert_array_equal(moments[0].clip(), moments[1].clip())
  assert moments[0].sound(0, 4).shape[1] == 8 and moments[0].clip(4).shape[1] == 2


def test_rings_replace_the_oldest_rows_by_valid_ones():
  ring = queue.empty_ring(4, 1)
  for first, valid in ((0, [1, 1, 1]), (10, [0, 1, 0]), (20, [1, 0, 1])):
    rows = jnp.arange(first, first + 3, dtype=jnp.float32)[:, None]
    ring = queue.put(ring, rows, jnp.array(valid, bool))
  assert ring.rows[:, 0].tolist() == [20, 22, 2, 11] and int(ring.place) == 2
  assert ring.known.all()
  with pytest.raises(ValueError, match="5 rows do not fit into a memory of 4"):
    queue.put(ring, jnp.zeros((5, 1)), jnp.ones(5, bool))


def test_rows_without_captions_count_with_their_sound():
  window = window_of()
  window["caption_valid"] = window["caption_valid"].at[2, 1:].set(False)
  spoiled = window | {"caption": window["caption"].at[:, 1:].set(0)}
  one, same_text = twice("mmv", window)[1], twice("mmv", spoiled)[1]
  same(one, same_text)
  assert one[0][1].scores["method@0"].valid.all()
  assert one[0][0] != twice("mmv", window_of())[1][0][0]
  none = {key: x for key, x in window.items() if not key.startswith("caption")}
  blind = window | {"caption_valid": jnp.zeros_like(window["caption_valid"])}
  found, learn, params, state = made("mmv")
  jax.eval_shape(found.loss, params, state, none, jax.random.key(0))
  (loss, _), gradients = learn(params, state, blind, jax.random.key(0))
  assert loss > 0 and np.any(gradients["video/linear"]["w"])
  assert not any(np.any(x) for x in gradients["text/conv"].values())


@pytest.mark.parametrize(
  "name, fields, match",
  [
    ("vatt", {"patch": 16}, "have no whole token of tubelet=2, patch=16"),
    ("vatt", {"buckets": (1, 2, 2)}, r"a grid of \(2, 2, 2\) video tokens; at most \(1, 2, 2\)"),
    ("dpc", {"predicted": 4}, "predicted=4 of 4 blocks of 1 frames; use fewer"),
    ("moco", {"size": 2}, "4 rows do not fit into a memory of 2"),
  ],
)
def test_sizes_that_do_not_fit_a_window_are_refused(name, fields, match):
  method = dataclasses.replace(METHODS[name].nano(), **fields)
  config = objective.Config(window=TICKS, side=SIDE, hop=100, augment=False, method=method)
  found = make_objective(zoo.build(FAMILY.variants["nano"]()), config)

  def run():
    params = found.init_params(jax.random.key(0), {})
    return found.loss(params, found.initial_state(params, ROWS), window_of(), jax.random.key(0))

  with pytest.raises(ValueError, match=match):
    jax.eval_shape(run)


def test_wrong_options_are_refused():
  with pytest.raises(
    TypeError, match="is the config of no method; use the Config of one of simclr"
  ):
    methods.make(objective.Config())
  with pytest.raises(ValueError, match=r"moco: momentum=1.5; use 0 to 1"):
    methods.make(METHODS["moco"].config_type(momentum=1.5))
  with pytest.raises(ValueError, match="coclr: top_k=9 of size=8 keys"):
    methods.make(METHODS["coclr"].config_type(size=8, top_k=9))
  with pytest.raises(ValueError, match="localise: negative=0.9 is above positive=0.65"):
    methods.make(METHODS["localise"].config_type(negative=0.9))
  with pytest.raises(ValueError, match="simclr: temperature=0.0; use more than 0"):
    objective.Config(method=METHODS["simclr"].config_type(temperature=0.0)).validate()
  with pytest.raises(ValueError, match="do not run tick by tick"):
    FAMILY.build(FAMILY.variants["nano"]()).step(None)
  found, _, params, state = made("clip")
  with pytest.raises(ValueError, match="views are random; give a key"):
    found.loss(params, state, window_of())
  with pytest.raises(ValueError, match="Did you mean 'moco'"):
    training.load_config("self_supervised:moko")


def test_options_of_pulses_add_captions_places_and_a_silent_disc():
  config = pulses.Config(
    modalities=pulses.MODALITIES, silent=True, swell=1.0, wrong_captions=0.5, noise=0.0
  )
  wrong, ticks = [], []
  for recording in range(12):
    one = pulses.Pulse(config, 0, recording)
    ticks = [one.read() for _ in range(16)]
    words = np.stack([tick["caption"] for tick in ticks])
    wrong += list(words[:, 0] != ticks[0]["label"])
    assert np.all((words >= [0, 4, 7, 9]) & (words < [4, 7, 9, config.vocabulary]))
    row, column = ticks[0]["place"].astype(int)
    assert (words[0, 2] == 8) == (column >= 12)
    light = np.array([float(tick["pixels"][row, column].mean()) for tick in ticks])
    loud = np.array([np.std(tick["audio"]) for tick in ticks])
    half = slice(12) if column >= 12 else slice(12, 24)
    other = np.stack([tick["pixels"][:, half].mean(axis=-1).ravel() for tick in ticks], axis=1)
    other = other[other.std(axis=1).argmax()]
    assert np.corrcoef(light, loud)[0, 1] > 0.95 > np.corrcoef(other, loud)[0, 1]
  assert 0.3 < np.mean(wrong) < 0.7
  assert set(pulses.specs(config)) == set(ticks[0])
  with pytest.raises(ValueError, match=r"pulses: modalities=\('sight',\); use some of"):
    pulses.Config(modalities=("sight",))
  with pytest.raises(ValueError, match="pulses: swell=2.0; use 0 to 1"):
    pulses.Config(swell=2.0)
