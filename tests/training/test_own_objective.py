"""Objectives from outside the package: by exact type, through the loop, the resume and the loader."""

import dataclasses
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_stream import inference, training, zoo
from perceiver_stream.models.moog import objective as next_frame
from perceiver_stream.training import flags, objectives
from perceiver_stream.training.objectives import future_prediction

# Also what a user would write: config, objective and experiment in the file that --config names.
FILE = '''
"""Shrinks all parameters; the stream only sets the pace."""

import dataclasses

import jax
import jax.numpy as jnp

from perceiver_stream import zoo
from perceiver_stream.streams import synthetic
from perceiver_stream.training import ExperimentConfig, OptimizerConfig, objectives
from perceiver_stream.training.objectives import future_prediction


@dataclasses.dataclass(kw_only=True)
class Config(future_prediction.Config):
  """As the objective that it extends, with a target."""

  target: float = 0.0


class Shrink(objectives.Objective):
  """Loss: the mean squared distance of all parameters from a target."""

  needs = ("pixels",)

  def loss(self, params, state, window, rng=None):
    far = [jnp.mean((x - self.config.target) ** 2) for x in jax.tree.leaves(params)]
    return sum(far) / len(far), objectives.Aux(state, {}, {})


objectives.register("shrink", Config, Shrink)


def get_config(variant="nano"):
  model = zoo.config("perceiver_flow/nano")
  stream = synthetic.Config(height=16, width=16, audio_rate_hz=0, modalities=("pixels",))
  optimizer = OptimizerConfig(name="sgd", learning_rate=1.0)
  return ExperimentConfig(model=model, stream=stream, objective=Config(window=2, target=3.0),
                          optimizer=optimizer, max_windows=2, use_baselines=False)
'''


@pytest.fixture
def experiment(tmp_path, monkeypatch):
  """A run of the file above: two windows, without a report; registered for one test."""
  monkeypatch.setattr(objectives, "_REGISTERED", dict(objectives._REGISTERED))
  path = tmp_path / "shrink.py"
  path.write_text(textwrap.dedent(FILE))
  config = training.load_config(str(path))
  config.run_dir = str(tmp_path / "run")
  config.logging.use_report = config.logging.use_tensorboard = False
  return config


def distance(params):
  return float(np.mean([np.mean((np.asarray(x) - 3.0) ** 2) for x in jax.tree.leaves(params)]))


def test_ones_own_objective_learns_resumes_and_is_loaded(experiment, tmp_path):
  assert training.train(experiment).windows == 2
  after_two = distance(inference.load(experiment.run_dir).params)
  again = training.from_json((tmp_path / "run" / "config.json").read_text())
  assert type(again.objective) is type(experiment.objective) and again == experiment
  again.max_windows = 4
  assert training.train(again).windows == 4
  assert distance(inference.load(again.run_dir).params) < after_two < 10


def test_a_run_of_an_objective_that_nobody_registered_says_what_to_import(experiment):
  text = training.to_json(experiment)
  for name in ("elsewhere", "antigravity.Config"):
    with pytest.raises(ValueError, match=f"{name}' .* import the module that registers it"):
      training.from_json(text.replace('"shrink"', f'"{name}"'))
  assert "antigravity" not in sys.modules


@dataclasses.dataclass(kw_only=True)
class Longer(future_prediction.Config):
  """Extends a config of ours and is registered nowhere."""


def test_a_config_that_extends_one_of_ours_is_not_taken_for_it():
  model = zoo.build("moog/nano")
  with pytest.raises(TypeError, match=r"test_own_objective.Longer, which .*objectives.register\("):
    objectives.make(model, Longer())
  made = [objectives.make(model, kind()) for kind in (future_prediction.Config, next_frame.Config)]
  assert [type(x) for x in made] == [future_prediction.FuturePrediction, next_frame.NextFrame]


@pytest.mark.parametrize(
  "name, config, error, text",
  [
    ("mine", next_frame.Config, ValueError, "next_frame.Config is in use; subclass it"),
    ("mine", object, TypeError, "is not a dataclass"),
    ("flow", Longer, ValueError, "name='flow'; use an identifier other than future_prediction"),
    ("a.b", Longer, ValueError, "name='a.b'; use an identifier"),
  ],
)
def test_what_cannot_be_registered_is_refused(name, config, error, text):
  with pytest.raises(error, match=text):
    objectives.register(name, config, object)


class Old:
  """An objective as it was written before `Objective` was a class to extend."""

  look_ahead, outputs, needs, baseline_displacements = 0, {}, ("pixels",), ()

  def __init__(self, model, config):
    self.config = config
    if config.window == 5:
      self.learner = model

  def loss(self, params, state, window, rng=None):
    return sum(x.sum() for x in jax.tree.leaves(params)), objectives.Aux(state, {}, {})


def test_an_objective_of_the_older_form_is_taken_with_a_warning(monkeypatch):
  monkeypatch.setattr(objectives, "_REGISTERED", dict(objectives._REGISTERED))
  model, no_rvm = zoo.build("moog/nano"), "It is RVM's."
  with pytest.warns(DeprecationWarning, match="let Old extend objectives.Objective"):
    objectives.register("older", Longer, Old, lambda m: no_rvm * (m.config != model.config))
  made = objectives.make(model, Longer())
  tick = {"pixels": np.zeros((1, *model.modalities["pixels"].spec.shape), np.uint8)}
  params = jax.eval_shape(made.init_params, jax.random.key(0), tick)
  (loss, aux), grads = jax.eval_shape(made.loss_and_grad, params, (), {})
  assert loss.shape == () and aux.next_state == () and made.labels == {}
  assert jax.tree.map(jnp.shape, grads) == jax.tree.map(jnp.shape, params)
  with pytest.raises(ValueError, match="objective older cannot train rvm: It is RVM's. Objectives"):
    objectives.make(zoo.build("rvm/nano"), Longer())
  with pytest.raises(TypeError, match="objective Old: extend .* initial_state instead of learner"):
    objectives.make(model, Longer(window=5))


def test_attributes_that_an_objective_no_longer_has_are_refused(monkeypatch):
  monkeypatch.setattr(objectives, "_REGISTERED", dict(objectives._REGISTERED))
  model = zoo.build("moog/nano")

  class Late(objectives.Objective):
    def __init__(self, model, config):
      self.config = config

  class Own(objectives.Objective):
    def __init__(self, model, config):
      super().__init__(model, config)
      self.gradient = None

  for kind, text in ((Late, "Late.__init__ does not call super"), (Own, "Own: extend .* gradient")):
    monkeypatch.setattr(kind, "__abstractmethods__", frozenset())
    monkeypatch.setattr(kind, "check_model", classmethod(lambda cls, model: None))
    objectives.register("mine", Longer, kind)
    with pytest.raises(TypeError, match=text):
      objectives.make(model, Longer())


def test_overrides_of_ones_own_config_are_checked(experiment):
  flags.check_key(experiment, "objective.target")
  with pytest.raises(ValueError, match="no key 'tarket'. Did you mean 'target'"):
    flags.check_key(experiment, "objective.tarket")


def test_a_model_config_that_extends_one_of_ours_is_not_taken_for_it():
  kind = type("Wider", (type(zoo.config("rvm/nano")),), {})
  for use in (zoo.build, zoo.staged, zoo.family):
    with pytest.raises(TypeError, match="Wider belongs to none of .*'rvm'"):
      use(kind())
