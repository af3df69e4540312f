"""Flamingo's resampler and gated cross-attention: against OpenFlamingo's, and by their rules."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden import files

from perceiver_stream.models import flamingo


def arrays_of(golden, prefix):
  return {name: np.asarray(value) for name, value in golden.below(f"{prefix}/params/").items()}


def gated(golden, name, **options):
  return flamingo.load_gated_attention(
    arrays_of(golden, name),
    head_dim=golden.hyper["dim_head"],
    only_immediate=name.endswith("immediate"),
    **options,
  )


def with_gates(params, values):
  """Returns the parameters with the gates (of attention, of the MLP) set."""
  gates = {"attention_gate": values[0], "mlp_gate": values[1]}
  return params | {
    module: {"alpha": jnp.reshape(gates[module.split("/")[-1]], ())}
    for module in params
    if module.split("/")[-1] in gates
  }


def with_fitted_gates(network, params, golden, name):
  """Returns the parameters with the two gates by which the stored output was computed.

  The file's own gates are those of its last check (0.5 and 0), which overwrote them after the outputs
  were stored. They are the least-squares solution of all stored numbers, by Gauss-Newton steps; so two
  numbers are fitted, and everything else has to agree.
  """
  inputs = inputs_of(golden, name)

  @jax.jit
  def residual(values):
    output = network.apply(with_gates(params, values), *inputs)
    return jnp.ravel(output - golden[f"{name}/output"])

  slope = jax.jit(jax.jacfwd(residual))

  def fitted(values):
    for _ in range(12):
      step = np.linalg.lstsq(np.asarray(slope(values)), np.asarray(residual(values)), rcond=None)[0]
      values = values - jnp.clip(jnp.asarray(step), -0.5, 0.5)
    return values

  stored = jnp.stack([leaves["alpha"] for m, leaves in params.items() if m.endswith("_gate")])
  starts = [jnp.asarray(v, jnp.float32) for v in ((0.1, 0.1), (-0.1, 0.1), (0.5, -0.5))]
  tries = [stored, *map(fitted, starts)]
  return with_gates(params, min(tries, key=lambda v: float(jnp.sum(residual(v) ** 2))))


def inputs_of(golden, name):
  return golden[f"{name}/text"], golden["resampler/output"], golden[f"{name}/media_locations"]


@pytest.mark.parametrize("golden", files("resampler"))
def test_layers_equal_the_released_ones(golden):
  head_dim = golden.hyper["dim_head"]
  tokens = golden["resampler/input"]
  for name in [n.split("/")[0] for n in golden.arrays if n.endswith("/params/latents")]:
    network, params = flamingo.load_resampler(arrays_of(golden, name), head_dim=head_dim)
    output, pull = jax.vjp(lambda x: network.apply(params, x), tokens)  # noqa: B023
    golden.close(f"{name}/output", output)
    if f"{name}/cotangent" in golden.arrays:
      golden.close(f"{name}/grad_input", pull(golden[f"{name}/cotangent"])[0])
    if f"{name}/output_first_frame_only" in golden.arrays:
      first = network.apply(params, tokens[:, :, :1])
      golden.close(f"{name}/output_first_frame_only", first)
  for name in [n.split("/")[0] for n in golden.arrays if n.endswith("/params/attn_gate")]:
    network, params = gated(golden, name, as_released=True)
    params = with_fitted_gates(network, params, golden, name)
    text, media, here = inputs_of(golden, name)
    output, pull = jax.vjp(lambda t, m: network.apply(params, t, m, here), text, media)  # noqa: B023
    golden.close(f"{name}/output", output)
    found = pull(golden[f"{name}/cotangent"])
    for part, gradient in zip(("text", "media"), found, strict=True):
      golden.close(f"{name}/grad_{part}", gradient)
    past = network.apply(params, text, media, here, all_past=True)
    golden.close(f"{name}/output_use_cached_media", past)
  inputs = ("input", "cotangent", "text", "media_locations")
  left = {n for n in golden.arrays if "/params/" not in n and n.split("/")[1] not in inputs}
  assert left <= golden.compared, left - golden.compared


@pytest.mark.parametrize("golden", files("resampler"))
def test_text_before_any_medium_reads_none(golden):
  for name in [n.split("/")[0] for n in golden.arrays if n.endswith("/params/attn_gate")]:
    network, params = gated(golden, name)
    text, media, here = inputs_of(golden, name)
    before = np.cumsum(here, axis=1) == 0

    def read(media):
      output = network.apply(params, text, media, here)  # noqa: B023
      return jnp.sum(jnp.where(before[..., None], output, 0) ** 2)  # noqa: B023

    assert np.all(np.asarray(jax.grad(read)(media)) == 0)
    output = network.apply(params, text, media, here)
    released = gated(golden, name, as_released=True)[0].apply(params, text, media, here)
    np.testing.assert_allclose(output[~before], released[~before], atol=1e-6)
    leaks = before.any() and not name.endswith("immediate")
    assert (np.max(np.abs(output - released)) > 1e-4) == leaks


@pytest.mark.parametrize("golden", files("resampler"))
def test_closed_gates_are_the_identity(golden):
  name = "gated_cross_attention_immediate"
  network, params = gated(golden, name)
  params = with_gates(params, jnp.zeros(2))
  text, media, here = inputs_of(golden, name)
  np.testing.assert_array_equal(network.apply(params, text, media, here), text)


@pytest.mark.parametrize("golden", files("resampler"))
def test_a_stream_is_resampled_tick_by_tick(golden):
  """Ticks are media of one frame; more tokens give no more latents."""
  arrays = arrays_of(golden, "resampler_no_embeddings")
  network, params = flamingo.load_resampler(arrays, head_dim=golden.hyper["dim_head"])
  tokens = golden["resampler/input"]
  tokens = tokens.reshape(tokens.shape[0], -1, 1, *tokens.shape[3:])
  whole = network.apply(params, tokens)
  ticks = [network.apply(params, tokens[:, t : t + 1]) for t in range(tokens.shape[1])]
  np.testing.assert_allclose(np.concatenate(ticks, axis=1), whole, atol=2e-6)
  doubled = network.apply(params, jnp.repeat(tokens, 2, axis=3))
  assert doubled.shape == whole.shape


@pytest.mark.parametrize("golden", files("resampler"))
def test_files_that_do_not_fit_are_refused(golden):
  arrays = arrays_of(golden, "resampler")
  head_dim = golden.hyper["dim_head"]
  with pytest.raises(ValueError, match=r"no multiple of head_dim=\d+; give the width"):
    flamingo.load_resampler(arrays, head_dim=head_dim * 1000)
  with pytest.raises(ValueError, match="norm.weight"):
    flamingo.load_resampler(
      {k: v for k, v in arrays.items() if k != "norm.weight"}, head_dim=head_dim
    )
  network, params = flamingo.load_resampler(arrays, head_dim=head_dim)
  most = len(arrays["frame_embs"])
  tokens = jnp.zeros((1, 1, most + 1, 2, arrays["latents"].shape[1]))
  with pytest.raises(ValueError, match=f"embeddings of {most} only; give fewer"):
    network.apply(params, tokens)
