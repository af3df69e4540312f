"""Masks of attention by name: against stored outputs and influences, and by their rules."""

import re

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden import files

from perceiver_stream import nn
from perceiver_stream.nn import attention, masks
from perceiver_stream.nn.gated import TanhGate

MODALITIES = {
  "merged": ("merged", 0),
  "modality_specific": ("modality_specific", 0),
  "coattention": ("coattention", 0),
  "asymmetric_first_asks": ("asymmetric", 0),
  "asymmetric_second_asks": ("asymmetric", 1),
}


def attention_of(golden):
  """Returns `(x, mask) -> output` with the stored projections of torch's MultiheadAttention."""
  heads, dim = golden.hyper["heads"], golden.hyper["dim"]
  network = hk.without_apply_rng(
    hk.transform(lambda x, mask: nn.Attention(heads, output_dim=dim, name="attention")(x, x, mask))
  )
  weights = jnp.split(golden["params/in_proj_weight"], 3)
  biases = jnp.split(golden["params/in_proj_bias"], 3)
  params = {
    f"attention/{name}": {"w": w.T, "b": b}
    for name, w, b in zip(("query", "key", "value"), weights, biases, strict=True)
  }
  output = {"w": golden["params/out_proj.weight"].T, "b": golden["params/out_proj.bias"]}
  params["attention/output"] = output
  return jax.jit(lambda x, mask: network.apply(params, x, mask)), params


def weights_of(params, x, mask, heads):
  """Returns the weights of attention, `[B, M, Q, N]`."""

  def project(name):
    y = x @ params[f"attention/{name}"]["w"]
    return y + jnp.broadcast_to(params[f"attention/{name}"]["b"], y.shape)

  split = lambda y: y.reshape(*y.shape[:2], heads, -1)  # noqa: E731
  return attention.attention_weights(split(project("query")), split(project("key")), mask)


def influence(function, x):
  """Returns True where an output of row 0 depends on a token, `[Q, N]`."""
  jacobian = jax.jacrev(lambda tokens: function(tokens[None])[0])(x[0])
  return np.any(np.asarray(jacobian) != 0, axis=(1, 3))


@pytest.mark.parametrize("golden", files("attention_masks"))
def test_types_between_modalities_equal_the_stored_ones(golden):
  attend, params = attention_of(golden)
  x, valid, sizes = golden["input"], golden["valid"], golden.hyper
  counts = sizes["first_modality_tokens"], sizes["second_modality_tokens"]
  here = {name.split("/")[0] for name in golden.arrays if name.endswith("/weights")}
  for name in here:
    kind, asking = MODALITIES[name]
    mask = masks.between_modalities(kind, counts, asking=asking)
    golden.equal(f"{name}/may_attend", mask)
    whole = masks.for_rows(mask, jnp.ones_like(valid))
    output, pull = jax.vjp(lambda x: attend(x, whole), x)  # noqa: B023
    golden.close(f"{name}/output", output)
    golden.close(f"{name}/grad_input", pull(golden[f"{name}/cotangent"])[0])
    golden.close(f"{name}/weights", weights_of(params, x, whole, sizes["heads"]))
    golden.close(f"{name}/output_with_valid", attend(x, masks.for_rows(mask, valid)))
    golden.equal(f"{name}/influence", influence(lambda x: attend(x, whole[:1]), x))  # noqa: B023
  _space_and_time(golden, attend)
  inputs = re.compile(r"params/.*|input|valid|.*/cotangent|frames/input|.*/alpha")
  left = {name for name in golden.arrays if not inputs.fullmatch(name)} - golden.compared
  assert not left, left


def _space_and_time(golden, attend):
  sizes, x = golden.hyper, golden["frames/input"]
  shape = sizes["frames"], sizes["tokens_per_frame"]
  for path in [n for n in golden.arrays if re.match("frames/.*/may_attend", n)]:
    name = path.split("/")[1]
    window = re.fullmatch(r"frame_window_(\d+)", name)
    mask = masks.frame_window(*shape, int(window[1])) if window else masks.over_frames(name, *shape)
    golden.equal(path, mask)
    rows = masks.for_rows(mask, jnp.ones(x.shape[:2], bool))
    golden.close(f"frames/{name}/output", attend(x, rows))
  rows = masks.for_rows(masks.over_frames("time_only", *shape), jnp.ones(x.shape[:2], bool))
  gate = hk.without_apply_rng(hk.transform(lambda x, update: TanhGate(name="gate")(x, update)))
  alpha = {"gate": {"alpha": golden["frames/gated_temporal/alpha"]}}
  golden.close("frames/gated_temporal/output", gate.apply(alpha, x, attend(x, rows)))


@pytest.mark.parametrize("counts", [(3, 2, 4), (1, 5)])
@pytest.mark.parametrize("asking", [0, 1])
def test_types_by_their_rules(counts, asking):
  modality = np.repeat(np.arange(len(counts)), counts)
  own = modality[:, None] == modality
  make = lambda kind: masks.between_modalities(kind, counts, asking=asking)  # noqa: E731
  np.testing.assert_array_equal(make("coattention"), ~make("modality_specific"))
  asymmetric = make("asymmetric")
  np.testing.assert_array_equal(asymmetric[modality != asking], own[modality != asking])
  np.testing.assert_array_equal(asymmetric[modality == asking], ~own[modality == asking])
  assert make("merged").all()


@pytest.mark.parametrize("frames, tokens", [(5, 2), (1, 3), (4, 1)])
def test_masks_over_frames_by_their_rules(frames, tokens):
  make = lambda kind: masks.over_frames(kind, frames, tokens)  # noqa: E731
  assert np.array_equal(make("space_only") & make("time_only"), np.eye(frames * tokens))
  assert np.array_equal(make("time_only") & make("frame_causal"), make("time_only_causal"))
  assert np.array_equal(masks.frame_window(frames, tokens, 0), make("space_only"))
  assert np.array_equal(masks.frame_window(frames, tokens, frames - 1), make("frame_causal"))


@pytest.mark.parametrize(
  "make, text",
  [
    (lambda: masks.between_modalities("fused", (2, 2)), "kind='fused' is none of merged, mod"),
    (lambda: masks.between_modalities("coattention", (2,)), r"at least 2 .* num_tokens=\(2,\)"),
    (lambda: masks.between_modalities("asymmetric", (2, 2), asking=2), "asking=2; use 0 to 1"),
    (lambda: masks.over_frames("causal", 2, 2), "kind='causal' is none of joint"),
    (lambda: masks.frame_window(2, 2, -1), "num_before=-1; use 0"),
    (
      lambda: masks.for_rows(np.ones((3, 3), bool), jnp.ones((2, 4), bool)),
      "the mask is of 3 tokens, but valid has 4",
    ),
  ],
)
def test_errors_name_what_does_not_fit(make, text):
  with pytest.raises(ValueError, match=text):
    make()
