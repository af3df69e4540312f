"""Arrays of OpenFlamingo's layers, under the names of their PyTorch modules."""

from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp

from perceiver_stream.models.flamingo.gated_attention import GatedCrossAttention
from perceiver_stream.models.flamingo.resampler import Resampler
from perceiver_stream.models.mapping import Flat, Rule, count_of, import_params, shape_of

_TRANSPOSED = (1, 0)


def _norm(ours: str, theirs: str) -> list[Rule]:
  return [
    Rule(f".*/{ours}/scale", f"{theirs}.weight"),
    Rule(f".*/{ours}/offset", f"{theirs}.bias"),
  ]


def _linear(ours: str, theirs: str) -> Rule:
  return Rule(f".*/{ours}/w", f"{theirs}.weight", axes=_TRANSPOSED)


RESAMPLER_RULES = [
  *_norm(r"attention_(\d+)/tokens_norm", r"layers.\1.0.norm_media"),
  *_norm(r"attention_(\d+)/latents_norm", r"layers.\1.0.norm_latents"),
  _linear(r"attention_(\d+)/query", r"layers.\1.0.to_q"),
  _linear(r"attention_(\d+)/key_value", r"layers.\1.0.to_kv"),
  _linear(r"attention_(\d+)/output", r"layers.\1.0.to_out"),
  *_norm(r"mlp_(\d+)/norm", r"layers.\1.1.0"),
  _linear(r"mlp_(\d+)/hidden", r"layers.\1.1.1"),
  _linear(r"mlp_(\d+)/output", r"layers.\1.1.3"),
  *_norm("norm", "norm"),
  Rule(".*/latents", "latents"),
  Rule(".*/frame_embeddings", "frame_embs"),
  Rule(".*/medium_embeddings", "media_time_embs", lambda shape: (shape[0], 1, shape[1])),
]

GATED_RULES = [
  Rule(".*/attention_gate/alpha", "attn_gate", lambda shape: (1,)),
  Rule(".*/mlp_gate/alpha", "ff_gate", lambda shape: (1,)),
  *_norm("attention/norm", "attn.norm"),
  _linear("attention/query", "attn.to_q"),
  _linear("attention/key_value", "attn.to_kv"),
  _linear("attention/output", "attn.to_out"),
  *_norm("mlp/norm", "ff.0"),
  _linear("mlp/hidden", "ff.1"),
  _linear("mlp/output", "ff.3"),
]


def load_resampler(
  arrays: Flat, *, head_dim: int = 64, source: str = "resampler"
) -> tuple[hk.Transformed, Any]:
  """Returns a transformed function `tokens -> latents`, see `Resampler`, and its parameters.

  Args:
    arrays: Arrays of OpenFlamingo's `perceiver` by name, without that prefix; their shapes give all
      sizes but `head_dim`.
    head_dim: Width of a head; 64 in all released models.
    source: Name of the file, for errors.

  Raises:
    ValueError: Arrays are missing, extra or misshaped, or `head_dim` does not divide the width.
  """
  num_latents, dim = shape_of(arrays, "latents", (64, 1024))
  settings = {
    "num_latents": num_latents,
    "num_layers": count_of(arrays, r"layers\.(\d+)\.0\.to_q\.weight"),
    "num_heads": _heads(arrays, r"layers\.0\.0\.to_q\.weight", head_dim, source),
    "head_dim": head_dim,
    "mlp_factor": shape_of(arrays, r"layers\.0\.1\.1\.weight", (4 * dim, dim))[0] // dim,
    "max_frames": shape_of(arrays, "frame_embs", (0, 0))[0],
    "max_media": shape_of(arrays, "media_time_embs", (0, 1, 0))[0],
  }
  network = hk.without_apply_rng(hk.transform(lambda tokens: Resampler(**settings)(tokens)))
  template = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 1, 1, 1, dim)))
  params = import_params(arrays, template, RESAMPLER_RULES, source=source)
  return network, jax.tree.map(jnp.asarray, params)


def load_gated_attention(
  arrays: Flat,
  *,
  head_dim: int = 64,
  only_immediate: bool = True,
  as_released: bool = False,
  source: str = "gated cross-attention",
) -> tuple[hk.Transformed, Any]:
  """Returns a transformed `GatedCrossAttention`, called with its arguments, and its parameters.

  Args:
    arrays: Arrays of one `gated_cross_attn_layer` of OpenFlamingo by name, without that prefix.
    head_dim: Width of a head; 64 in all released models.
    only_immediate: See `GatedCrossAttention`.
    as_released: See `GatedCrossAttention`.
    source: Name of the file, for errors.

  Raises:
    ValueError: Arrays are missing, extra or misshaped, or `head_dim` does not divide the width.
  """
  hidden, text_dim = shape_of(arrays, r"ff\.1\.weight", (8192, 2048))
  settings = {
    "num_heads": _heads(arrays, r"attn\.to_q\.weight", head_dim, source),
    "head_dim": head_dim,
    "mlp_factor": hidden // text_dim,
    "only_immediate": only_immediate,
    "as_released": as_released,
  }

  def run(*args: Any, **kwargs: Any) -> jax.Array:
    return GatedCrossAttention(**settings)(*args, **kwargs)

  network = hk.without_apply_rng(hk.transform(run))
  media = jnp.zeros((1, 1, 1, shape_of(arrays, r"attn\.to_kv\.weight", (1024, 1024))[1]))
  inputs = jnp.zeros((1, 1, text_dim)), media, jnp.zeros((1, 1), bool)
  template = jax.eval_shape(network.init, jax.random.key(0), *inputs)
  params = import_params(arrays, template, GATED_RULES, source=source)
  return network, jax.tree.map(jnp.asarray, params)


def _heads(arrays: Flat, pattern: str, head_dim: int, source: str) -> int:
  width = shape_of(arrays, pattern, (512, 1024))[0]
  if head_dim < 1 or width % head_dim:
    raise ValueError(
      f"{source}: queries of width {width} are no multiple of head_dim={head_dim}; give the width of "
      f"a head of this model."
    )
  return width // head_dim
