"""BraVe equals the released one: outputs, losses, gradients, running statistics and LARS steps."""

import functools
import pickle
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from golden import Golden, close, files, gradients_close

from perceiver_stream.models import brave, tsm_resnet
from perceiver_stream.models.brave.weights import IGNORE
from perceiver_stream.models.mapping import (
  check_names,
  flatten,
  import_params,
  published_names,
  unflatten,
)
from perceiver_stream.nn.losses.cosine_regression import cosine_regression
from perceiver_stream.nn.temporal_shift import deflated_shift, rotating_shift
from perceiver_stream.training.layerwise import LARS_MASKS
from perceiver_stream.training.optimizers import OptimizerConfig, make_optimizer, make_schedule
from perceiver_stream.zoo import clip_encoders

each_case = pytest.mark.parametrize("golden", files("brave"))


def sizes(h: dict) -> dict:
  """Returns the sizes of the towers in a JSON's hyperparameters."""
  stages = {f"stage_{k}": tuple(h[f"stage_{k}"]) for k in ("channels", "blocks", "strides")}
  return {"stem_channels": h["stem_channels"], "bottleneck": h["bottleneck_divisor"]} | stages


def config_of(golden: Golden) -> brave.Config:
  h = golden.about["hyperparameters"]
  return brave.Config(
    video=tsm_resnet.Config(**sizes(h), shift_share=h["channel_shift_fraction"]),
    audio=tsm_resnet.Config(**sizes(h), shift_share=0.0, project_first=False),
    broad_video=h["include_video_in_broad_view"],
    broad_audio=h["include_audio_in_broad_view"],
    hidden_dim=h["mlp_hidden"],
    output_dim=h["output_dims"],
  )


@functools.cache
def made(golden: Golden):
  """Returns model, views (replicas first), parameters, state, and released names of both."""
  model, rules = brave.build(config_of(golden)), brave.rules()
  views = {k: jnp.asarray(v) for k, v in golden.part("inputs/").items() if k in brave.VIEWS}
  one = jax.tree.map(lambda x: x[0], views)
  params, state = jax.eval_shape(model.init, jax.random.key(0), one)
  names = [{ours: p.name for ours, p in published_names(t, rules).items()} for t in (params, state)]
  given = golden.part("params/")
  params = jax.device_put(import_params(given, params, rules, source="golden", ignore=IGNORE))
  released = golden.part("state/")
  assert set(released) == set(names[1].values())
  state = unflatten({ours: jnp.asarray(released[name]) for ours, name in names[1].items()})
  return model, views, params, state, *names


def train_mode(golden: Golden):
  bn = golden.about["hyperparameters"]["batch_norm"]
  return brave.TRAIN._replace(axis_name="replicas" if bn["cross_replica"] else None)


@functools.cache
def step_of(golden: Golden):
  """Returns the jitted gradient of the loss, the mean over replicas, with all of its results."""
  model, views, _, state, *_ = made(golden)

  def mean(params):
    one = lambda v: model.loss(params, state, v, train_mode(golden))  # noqa: E731
    loss, (parts, after) = jax.vmap(one, axis_name="replicas")(views)
    return jnp.mean(loss), (loss, parts, after)

  return jax.jit(jax.value_and_grad(mean, has_aux=True))


@each_case
def test_towers_head_loss_gradients_and_statistics(golden):
  model, views, params, state, param_names, state_names = made(golden)

  (_, (loss, parts, after)), gradients = step_of(golden)(params)

  def evaluate(view, features):  # the stored head reads the features of training
    return model.embed(params, state, view)[0], model.project(params, state, features)[0]

  towers, narrow = jax.jit(jax.vmap(evaluate))(views, parts.features["narrow_video"])
  for name in views:
    golden.close(f"outputs/eval/embedding/{name}", towers[name].features)
    golden.close(f"outputs/train/embedding/{name}", parts.features[name])
    for endpoint in golden.part(f"outputs/eval/{name}/"):
      found = towers[name].stages[
        re.sub(".*unit_", "stage_", endpoint).replace("last_conv", "last")
      ]
      found = found[:, :, 0] if name == "broad_audio" else found
      golden.close(f"outputs/eval/{name}/{endpoint}", found)
  for letter in "zh":
    golden.close(f"outputs/eval/narrow_{letter}", getattr(narrow, letter))
    golden.close(f"outputs/train/narrow_{letter}", getattr(parts.narrow, letter))
  golden.close("outputs/loss/loss", loss)
  for i, name in enumerate(("broad_video", "broad_audio"), 1):
    if name in views:
      golden.close(f"outputs/loss/loss_b_to_n_{i}", parts.terms[f"{name}_to_narrow"])
      golden.close(f"outputs/loss/loss_n_to_b_{i}", parts.terms[f"narrow_to_{name}"])
  released = {param_names[k]: v for k, v in flatten(gradients).items()}
  gradients_close(golden.split("outputs/grads_flat", "grad_order"), released)
  check_state(golden, {state_names[k]: np.asarray(v[0]) for k, v in flatten(after).items()})


def check_state(golden, after):
  tolerance = golden.about["suggested_atol"]
  for name, want in golden.split("outputs/new_state_flat", "state_order").items():
    close(want, after[name], tolerance, name)
  counters = {k: int(v) for k, v in after.items() if k.endswith("counter")}
  assert counters == golden.about["state_counters_after_one_loss"]


def optimizer_of(about: dict) -> OptimizerConfig:
  """Returns our config of a JSON's optimiser, LARS with the released mask."""
  o, rate = about["optimizer"], about["optimizer"]["scheduler_kwargs"]
  assert (o["optimizer_name"], o["scheduler_name"]) == ("lars", "cosine_decay")
  return OptimizerConfig(
    name="lars",
    schedule="cosine",
    learning_rate=rate["peak_value"],
    initial_fraction=rate["init_value"] / rate["peak_value"],
    final_fraction=rate["end_value"] / rate["peak_value"],
    warmup_steps=rate["warmup_steps"],
    decay_steps=rate["decay_steps"],
    b1=o["optimizer_kwargs"]["momentum"],
    nesterov=o["optimizer_kwargs"]["nesterov"],
    trust_coefficient=o["optimizer_kwargs"]["trust_coefficient"],
    weight_decay=o["weight_decay"],
    gradient_factors=dict(o["scale_learning_rate_by_regex"]),
    lars_mask="as_released",
    clip_norm=0.0,
  )


@each_case
def test_lars_steps_with_the_released_mask(golden):
  _, _, params, _, names, _ = made(golden)
  config = optimizer_of(golden.about)
  masked = {released for ours, released in names.items() if LARS_MASKS["as_released"](ours)}
  assert masked == set(golden.about["weight_decay_and_trust_ratio_apply_to"])
  optimizer, update = make_optimizer(config), None
  opt_state, update = optimizer.init(params), jax.jit(optimizer.update)
  steps = sorted(golden.part("outputs/loss_at_step_"), key=int)
  for step in steps:
    (_, (loss, *_)), gradients = step_of(golden)(params)
    golden.close(f"outputs/loss_at_step_{step}", loss)
    updates, opt_state = update(gradients, opt_state, params)
    params = optax.apply_updates(params, updates)
    found = {names[k]: v for k, v in flatten(params).items()}
    stored = golden.split(f"outputs/params_after_step_{step}_flat", "grad_order")
    for name, want in stored.items():
      close(want, found[name], golden.about["suggested_atol"], f"{name}, step {step}")
    # From the stored ones: LARS at these rates amplifies the rounding of one step in the next.
    params = unflatten({ours: jnp.asarray(stored[name]) for ours, name in names.items()})
  rate, num = make_schedule(config), len(golden["outputs/learning_rate"])
  golden.close("outputs/learning_rate", np.stack([rate(step) for step in range(num)]))


@each_case
def test_shifts_and_regression(golden):
  x, share = golden["inputs/shift_x"], golden.about["hyperparameters"]["channel_shift_fraction"]
  found = re.search(r"with (\d+) frames", golden.about["keys"]["outputs/shift_tpu"])
  assert found
  frames = int(found[1])
  by_rows = jnp.asarray(x.reshape(-1, frames, *x.shape[1:]))
  golden.close("outputs/shift_gpu", rotating_shift(by_rows, share).reshape(x.shape))
  by_time = jnp.asarray(x.reshape(frames, -1, *x.shape[1:]).swapaxes(0, 1))
  shifted = rotating_shift(by_time, share, as_released_tpu=True)
  golden.close("outputs/shift_tpu", shifted.swapaxes(0, 1).reshape(x.shape))
  golden.close("outputs/shift_deflated", deflated_shift(jnp.asarray(x), share))
  pair = jnp.asarray(golden["inputs/regression_x"]), jnp.asarray(golden["inputs/regression_y"])
  golden.close("outputs/regression_loss", cosine_regression(*pair))
  gradient = jax.grad(lambda x, y: jnp.mean(cosine_regression(x, y)))(*pair)
  golden.close("outputs/regression_grad_x", gradient)


@each_case
def test_every_array_was_compared(golden):
  """Runs the other tests of the file again if this one is selected alone."""
  if not golden.compared:
    test_towers_head_loss_gradients_and_statistics(golden)
    test_lars_steps_with_the_released_mask(golden)
    test_shifts_and_regression(golden)
  golden.all_compared()


@each_case
def test_names_and_shapes_at_full_size(golden):
  """All arrays of the release; the loader ignores the copies that its initialisation makes."""
  about = golden.about["full_size"]
  model = brave.build(brave.Config(broad_video=False))
  views = {"narrow_video": (1, 2, 32, 32, 3), "broad_audio": (1, 32, 16)}
  views = {name: jax.ShapeDtypeStruct(shape, np.float32) for name, shape in views.items()}
  trees = jax.eval_shape(model.init, jax.random.key(0), views)
  params, state = ({p.name: p for p in published_names(t, brave.rules()).values()} for t in trees)
  released = {n: np.zeros(s, bool) for n, s in about["params_V_A"].items()}
  check_names(released, {n: p.shape for n, p in params.items()}, source="release", ignore=IGNORE)
  assert sum(int(np.prod(p.shape)) for p in params.values()) == about["num_parameters_V_A"] - sum(
    x.size for n, x in released.items() if re.fullmatch(IGNORE, n)
  )
  norms = {n.rsplit("/", 1)[0] for n in params if n.endswith("scale")}
  leaves = [
    f"~/{e}_ema/{leaf}" for e in ("mean", "var") for leaf in ("hidden", "average", "counter")
  ]
  assert set(state) == {f"{norm}/{leaf}" for norm in norms for leaf in leaves}


@each_case
@pytest.mark.parametrize("kind", ["npy", "pkl"])
def test_the_narrow_tower_of_a_released_file_is_an_encoder(golden, kind, tmp_path):
  """A dict of two-level trees and a config, pickled by NumPy or alone."""
  trees = {name: unflatten(golden.part(f"{name}/")) for name in ("params", "state")}
  path, held = (
    tmp_path / f"released.{kind}",
    trees | {"config": {"output_dims": 10, "name": "brave"}},
  )
  path.write_bytes(pickle.dumps(trees))
  if kind == "npy":
    np.save(path, np.array(held, dtype=object), allow_pickle=True)
  encoder, params, statistics = clip_encoders.load(path)
  clips = jnp.asarray(golden["inputs/narrow_video"][0])
  outputs, _ = encoder.apply(params, statistics, clips)
  want = golden["outputs/eval/embedding/narrow_video"][0]
  close(want, outputs.pooled, golden.about["suggested_atol"], "narrow_video")
  with pytest.raises(
    ValueError, match="tsm_resnet is not causal .* Its shift reads the next frame"
  ):
    encoder.step(params, statistics, {}, clips[:, 0])
