"""What every recurrent core promises; a new one is picked up from `CORES`."""

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from trees import assert_close

from perceiver_stream.core import CORES, CoreInputs, PredictCorrectConfig
from perceiver_stream.core.predict_correct import EMBEDDINGS, grid_embedding
from perceiver_stream.nn import Precision

ROWS, TOKENS, DIM, TICKS = 3, 6, 8, 5


VARIANTS = [(kind, {}) for kind in CORES] + [(PredictCorrectConfig, {"latent_embedding": "grid"})]


@pytest.fixture(params=VARIANTS, ids=lambda c: "-".join([c[0].__name__, *c[1]]))
def core(request):
  """Returns initial_state, step, unroll and latents of a core, its parameters and inputs."""
  kind, options = request.param
  return build(kind(num_latents=4, latent_dim=DIM, num_heads=2, **options))


def build(config):
  def functions():
    module = CORES[type(config)](config, Precision(), name="core")

    def unroll(inputs, state):
      return hk.dynamic_unroll(module, inputs, state)

    def init(inputs):
      return unroll(inputs, module.initial_state(ROWS))

    return init, (lambda: module.initial_state(ROWS), module, unroll, module.latents)

  transformed = hk.multi_transform(functions)
  inputs = CoreInputs(
    jax.random.normal(jax.random.key(0), (TICKS, ROWS, TOKENS, DIM)),
    jnp.ones((TICKS, ROWS, TOKENS), bool),
    jnp.zeros((TICKS, ROWS), bool),
  )
  params = transformed.init(jax.random.key(1), inputs)
  apply = [lambda p, *a, f=f: f(p, None, *a) for f in transformed.apply]
  return *apply, params, inputs


def test_the_output_is_the_state_and_holds_the_latents(core):
  initial, step, _, latents, params, inputs = core
  state = initial(params)
  output, after = step(params, jax.tree.map(lambda x: x[0], inputs), state)
  assert_close(output, after, atol=0)
  kinds = lambda tree: jax.tree.map(lambda x: (x.shape, x.dtype), tree)  # noqa: E731
  assert kinds(state) == kinds(after)
  found = latents(params, after)
  assert found.shape[:2] == (ROWS, 4) and found.shape[2] >= DIM and found.dtype == jnp.float32


def test_unroll_is_steps(core):
  initial, step, unroll, _, params, inputs = core
  outputs, last = unroll(params, inputs, initial(params))
  state = initial(params)
  for tick in range(TICKS):
    output, state = step(params, jax.tree.map(lambda x, t=tick: x[t], inputs), state)
    assert_close(output, jax.tree.map(lambda x, t=tick: x[t], outputs), atol=1e-5)
  assert_close(state, last, atol=1e-5)


def test_hidden_tokens_do_not_matter(core):
  initial, step, _, latents, params, inputs = core
  now = jax.tree.map(lambda x: x[0], inputs)
  hidden = now._replace(visible=now.visible.at[:, 2:].set(False))
  other = hidden._replace(tokens=hidden.tokens.at[:, 2:].set(99.0))
  state = initial(params)
  one, two, all_of_them = (latents(params, step(params, x, state)[0]) for x in (hidden, other, now))
  np.testing.assert_allclose(one, two, atol=1e-6)
  assert not np.allclose(one, all_of_them, atol=1e-4)


def test_a_reset_forgets_the_row(core):
  initial, step, unroll, latents, params, inputs = core
  _, warm = unroll(params, inputs, initial(params))
  now = jax.tree.map(lambda x: x[0], inputs)._replace(is_first=jnp.asarray([True, False, False]))
  cold, _ = step(params, now, initial(params))
  mixed, _ = step(params, now, warm)
  assert_close(*(jax.tree.map(lambda x: x[0], tree) for tree in (mixed, cold)), atol=1e-6)
  assert not np.allclose(latents(params, mixed)[1], latents(params, cold)[1], atol=1e-4)


def test_states_stay_bounded_on_a_long_stream(core):
  initial, _, unroll, latents, params, inputs = core
  long = jax.tree.map(lambda x: jnp.concatenate([x] * 60), inputs)
  outputs, _ = jax.jit(unroll)(params, long._replace(tokens=5 * long.tokens), initial(params))
  outputs = latents(params, outputs)
  assert np.all(np.isfinite(outputs))
  assert np.max(np.abs(outputs[-50:])) < 2 * np.max(np.abs(outputs[:50])) + 1


@pytest.mark.parametrize("embedding", EMBEDDINGS)
def test_latents_that_are_one_vector_come_apart_by_their_embedding_alone(embedding):
  sizes = {"num_latents": 4, "latent_dim": DIM, "num_heads": 2}
  config = PredictCorrectConfig(latent_embedding=embedding, **sizes)
  initial, _, unroll, _, params, inputs = build(config)
  same = jnp.broadcast_to(initial(params)[:, :1], (ROWS, 4, DIM))
  _, last = unroll(params, inputs, same)
  assert (float(jnp.std(last, axis=1).mean()) > 0.3) == (embedding != "none")


def test_sizes_that_do_not_divide_are_refused(core):
  for config in CORES:
    with pytest.raises(ValueError, match="latent_dim=10 is not a multiple of num_heads=4"):
      config(latent_dim=10, num_heads=4).validate()


@pytest.mark.parametrize("num", [1, 7, 12, 64])
def test_embeddings_that_start_on_a_grid_are_apart(num):
  table = grid_embedding(num, 256)
  assert table.shape == (num, 256) and 0.5 < np.sqrt(np.mean(np.square(table))) < 1.5
  np.testing.assert_array_equal(np.argmax(table @ table.T, axis=1), np.arange(num))


def test_an_unknown_embedding_is_refused():
  with pytest.raises(
    ValueError, match="latent_embedding 'grd' is not one of .'none', 'learned', 'gr"
  ):
    PredictCorrectConfig(latent_embedding="grd").validate()
