"""Painters keep the contract of every model; what they remember is of this recording alone."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_stream.core.lru import GatedLruConfig
from perceiver_stream.models import conv3d, image_rnn, trecvit
from perceiver_stream.models.painter import fitted
from perceiver_stream.types import ModalitySpec

ROWS, TICKS = 2, 5
SIZES = {"height": 8, "width": 16, "patch": 4, "dim": 8, "num_layers": 2}
MODELS = {
  "trecvit": lambda: trecvit.build(
    trecvit.Config(num_heads=2, lru=GatedLruConfig(dim=6), displacements=(1, 3), **SIZES)
  ),
  "image_rnn": lambda: image_rnn.build(
    image_rnn.Config(num_heads=2, displacements=(1, 3), **SIZES)
  ),
  "conv3d": lambda: conv3d.build(conv3d.Config(displacements=(1, 3), **SIZES)),
}


@functools.cache
def built(name):
  """Returns a model, parameters, observations `[T, B, ...]` and what `unroll` makes of them."""
  model, rng = MODELS[name](), np.random.default_rng(0)
  pictures = rng.integers(0, 256, (TICKS, ROWS, 8, 16, 3)).astype(np.uint8)
  first = np.zeros((TICKS, ROWS), bool)
  first[0], first[3, 1] = True, True
  watched = {"pixels": jnp.asarray(pictures), "is_first": jnp.asarray(first)}
  params = model.init(jax.random.key(0), {n: v[0] for n, v in watched.items()})
  params = jax.tree.map(lambda x: x + 0.1 * rng.normal(size=x.shape).astype(np.float32), params)
  state = model.initial_state(params, ROWS)
  return model, params, watched, state, *model.unroll(params, state, watched)


@pytest.fixture(params=MODELS)
def painter(request):
  return built(request.param)


def test_unroll_is_steps(painter):
  model, params, watched, state, outputs, last = painter
  for tick in range(TICKS):
    now, state = model.step(params, state, {n: v[tick] for n, v in watched.items()})
    np.testing.assert_allclose(
      now.predictions["pixels"], outputs.predictions["pixels"][tick], atol=1e-5
    )
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), state, last)


def test_it_does_not_look_ahead_and_a_reset_forgets(painter):
  model, params, watched, state, outputs, _ = painter
  other = {**watched, "pixels": watched["pixels"].at[2].set(7)}
  changed, _ = model.unroll(params, state, other)
  far = np.abs(changed.latents - outputs.latents).max((2, 3))
  assert np.all(far[:2] < 1e-6) and np.all(far[2] > 1e-3)
  assert far[3, 0] > 1e-5, "the row that goes on remembers"
  assert np.all(far[3:, 1] < 1e-6), "the row that starts anew does not"


def test_single_answers_are_those_of_whole_pictures(painter):
  model, params, _, _, outputs, last = painter
  whole = outputs.predictions["pixels"][-1]
  assert whole.shape == (ROWS, 2, 8, 16, 3)
  asked = model.queries("pixels", displacement=3.0, cells=[0, 37, 127])
  answers = model.decode(params, last, asked)["pixels"]
  expected = whole[:, 1].reshape(ROWS, -1, 3)[:, jnp.asarray([0, 37, 127])]
  np.testing.assert_allclose(answers[:, :, 0, 0], expected, atol=1e-5)
  one = model.predict(params, last, (3,))["pixels"]
  np.testing.assert_allclose(one[:, 0], whole[:, 1], atol=1e-5)


def test_errors_say_what_is_wrong():
  model, params, watched, _, _, last = built("conv3d")
  with pytest.raises(ValueError, match=r"CausalConv3D: it paints \(1, 3\) ticks ahead, not 2"):
    model.predict(params, last, (2,))
  with pytest.raises(ValueError, match="every token of CausalConv3D stays at its own place"):
    model.attention(params, last, watched)
  with pytest.raises(ValueError, match="frames 8×10 are not a whole number of 4×4 patches"):
    conv3d.build(conv3d.Config(height=8, width=10, patch=4)).init(
      jax.random.key(0), {"pixels": jnp.zeros((1, 8, 10, 3), jnp.uint8)}
    )
  with pytest.raises(ValueError, match=r"trecvit: the stream has \['audio'\]"):
    fitted(trecvit.Config(), {"audio": ModalitySpec(shape=(4,))})
