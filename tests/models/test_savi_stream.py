"""SAVi on a stream: cues of the first tick, targets, displacements, masks, and its objective."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_stream import zoo
from perceiver_stream.models.savi import streaming
from perceiver_stream.models.savi.objective import Config, SlotDecoding
from perceiver_stream.training import objectives
from perceiver_stream.types import IS_FIRST, valid_key

SIDE, TICKS, ROWS = 8, 3, 2


@functools.cache
def cued(target="depth"):
  """Returns a conditional model, its parameters, and observations of two rows with one object each."""
  config = dataclasses.replace(
    zoo.config("savi/nano"),
    conditional=True,
    target=target,
    target_dim=streaming.TARGETS[target],
    displacements=(0, 2),
  )
  model = zoo.build(config)
  rng = np.random.default_rng(0)
  masks = np.zeros((TICKS, ROWS, SIDE, SIDE), np.int32)
  masks[:, 0, 1:4, 2:6] = 1
  masks[:, 1, 4:8, 4:8] = 2
  observed = {
    "pixels": rng.integers(0, 256, (TICKS, ROWS, SIDE, SIDE, 3), np.uint8),
    "segmentation": masks,
    valid_key("segmentation"): np.ones((TICKS, ROWS), bool),
    IS_FIRST: np.broadcast_to(np.arange(TICKS)[:, None] == 0, (TICKS, ROWS)),
  }
  params = model.init(jax.random.key(0), {n: x[0] for n, x in observed.items()})
  return model, params, observed


def run(changes):
  model, params, observed = cued()
  outputs, _ = model.unroll(params, model.initial_state(params, ROWS), observed | changes)
  return outputs


def test_boxes_of_the_first_tick_are_cues_and_later_masks_are_not_read():
  _, _, observed = cued()
  plain, masks = run({}), observed["segmentation"]
  later = masks.copy()
  later[1:] = np.roll(masks[1:], 2, axis=-1)
  np.testing.assert_array_equal(run({"segmentation": later}).latents, plain.latents)
  moved = masks.copy()
  moved[0, 0] = np.roll(masks[0, 0], 2, axis=-1)
  other = run({"segmentation": moved})
  assert not np.allclose(other.latents[:, 0], plain.latents[:, 0], atol=1e-4)
  np.testing.assert_allclose(other.latents[:, 1], plain.latents[:, 1], atol=1e-5)


def test_a_row_without_a_cue_starts_from_learned_slots():
  flags = np.ones((TICKS, ROWS), bool)
  flags[:, 0] = False
  some, none = run({valid_key("segmentation"): flags}), run({valid_key("segmentation"): ~flags})
  model, params, observed = cued()
  rest = {n: x for n, x in observed.items() if "segmentation" not in n}
  absent, _ = model.unroll(params, model.initial_state(params, ROWS), rest)
  np.testing.assert_allclose(some.latents[:, 0], absent.latents[:, 0], atol=1e-5)
  np.testing.assert_allclose(none.latents[:, 1], absent.latents[:, 1], atol=1e-5)
  assert not np.allclose(some.latents[:, 1], absent.latents[:, 1], atol=1e-4)


def test_a_recording_that_starts_inside_a_window_is_that_recording_alone():
  """A new recording starts at tick 1 in row 0, not in row 1."""
  _, _, observed = cued()
  masks = np.stack([np.roll(observed["segmentation"][0], t, axis=-1) for t in range(TICKS)])
  alone = observed | {"segmentation": masks}
  later = {name: np.concatenate([x[-1:], x[:-1]]) for name, x in alone.items()}
  later[IS_FIRST] = np.array([[True, True], [True, False], [False, False]])
  first, second = run(alone), run(later)
  np.testing.assert_allclose(second.latents[1:, 0], first.latents[:-1, 0], atol=1e-5)
  assert not np.allclose(second.latents[1:, 1], first.latents[:-1, 1], atol=1e-3)
  later[IS_FIRST] = np.array([[True, True], [False, False], [False, False]])
  through = run(later)
  np.testing.assert_allclose(through.latents[:, 1], second.latents[:, 1], atol=1e-5)
  assert not np.allclose(through.latents[1:, 0], second.latents[1:, 0], atol=1e-3)


@pytest.mark.parametrize("target", ["depth", "flow"])
def test_targets_and_shares_are_images_of_the_frame_at_each_displacement(target):
  model, params, observed = cued(target)
  states, last = model.observe(params, model.initial_state(params, ROWS), observed)
  found = model.predict(params, last, (0, 2))
  channels = () if target == "depth" else (2,)
  assert found[target].shape == (ROWS, 2, SIDE, SIDE, *channels)
  shares = found[f"{target}_slots"]
  assert shares.shape == (ROWS, 2, SIDE, SIDE, 3)
  np.testing.assert_allclose(shares.sum(-1), 1, atol=1e-5)
  assert not np.allclose(found[target][:, 0], found[target][:, 1], atol=1e-6)
  np.testing.assert_allclose(model.latents(params, states)[-1], last.latents.corrected)


def test_the_objective_compares_with_the_prior_and_needs_every_modality_of_the_model():
  model, params, observed = cued()
  objective = objectives.make(model, Config(window=TICKS - 2))
  assert isinstance(objective, SlotDecoding)
  assert set(objective.needs) == {"pixels", "depth", "segmentation"}
  metres = np.full((TICKS, ROWS, SIDE, SIDE), 2.0, np.float32)
  state = objective.initial_state(params, ROWS)
  window = jax.tree.map(jnp.asarray, observed | {"depth": metres})
  loss, aux = objective.loss(params, state, window)
  assert np.isfinite(loss) and set(aux.scores) == {"depth@0", "depth@2"}
  score = aux.scores["depth@0"]
  assert set(score.baselines) == {"prior"} and np.all(score.baselines["prior"] > 0.5)
  assert SlotDecoding.check_model(zoo.build("moog/nano")) == "It is no SAVi."


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"target": "sound"}, "target='sound'; use one of pixels, flow, depth"),
    ({"target": "flow"}, "target_dim=3, but flow has 2 channels; set target_dim to that"),
    ({"decoder_strides": ((1, 1),)}, "1 decoder_strides for 2 decoder_channels"),
  ],
)
def test_configs_that_contradict_themselves_are_refused(changes, message):
  with pytest.raises(ValueError, match=message):
    zoo.build(dataclasses.replace(zoo.config("savi/nano"), **changes))
