"""Published weights of V-JEPA: names in the training checkpoints, and sizes from shapes.

Files hold a dictionary of encoder, predictor and target_encoder (the teacher, which evaluations use).
Read from files of torch or from safetensors, under names as `target_encoder.backbone.blocks.0…`, with or
without `module.`; tables of positions are computed, and ignored in files.
"""

import functools
import math
import re

from perceiver_stream.models.mapping import Detected, Flat, Rule, count_of, shape_of
from perceiver_stream.models.vjepa.config import Config, PredictorConfig

TABLES = r"(.*[./])?(predictor_)?pos_embed"


def _pair(ours: str, theirs: str) -> list[Rule]:
  return [Rule(f"{ours}/w", f"{theirs}.weight", axes=(1, 0)), Rule(f"{ours}/b", f"{theirs}.bias")]


def _norm(ours: str, theirs: str) -> list[Rule]:
  return [Rule(f"{ours}/scale", f"{theirs}.weight"), Rule(f"{ours}/offset", f"{theirs}.bias")]


def _block(ours: str, theirs: str) -> list[Rule]:
  return [
    *_norm(rf"{ours}/norm([12])", rf"{theirs}.norm\2"),
    *_pair(rf"{ours}/(qkv|proj)", rf"{theirs}.attn.\2"),
    *_pair(rf"{ours}/fc([12])", rf"{theirs}.mlp.fc\2"),
  ]


def encoder_rules(config: Config, theirs: str = "", ours: str = "vjepa") -> list[Rule]:
  """Returns the names of an encoder; `theirs` is the prefix in the file, `ours` in the tree."""
  c = config

  def kernel(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (shape[0], c.channels, c.tubelet, c.patch, c.patch)

  return [
    Rule(f"{ours}/patches/w", f"{theirs}patch_embed.proj.weight", kernel, (1, 0)),
    Rule(f"{ours}/patches/b", f"{theirs}patch_embed.proj.bias"),
    *_block(rf"{ours}/block_(\d+)", rf"{theirs}blocks.\1"),
    *_norm(f"{ours}/norm", f"{theirs}norm"),
  ]


def predictor_rules(theirs: str = "", ours: str = "predictor") -> list[Rule]:
  """Returns the names of a predictor."""
  return [
    *_pair(f"{ours}/embed", f"{theirs}predictor_embed"),
    Rule(rf"{ours}/mask_token_(\d+)", rf"{theirs}mask_tokens.\1"),
    *_block(rf"{ours}/block_(\d+)", rf"{theirs}predictor_blocks.\1"),
    *_norm(f"{ours}/norm", f"{theirs}predictor_norm"),
    *_pair(f"{ours}/project", f"{theirs}predictor_proj"),
  ]


def probe_rules(ours: str = "probe") -> list[Rule]:
  """Returns the names of an attentive probe; `xattn.proj` of version 1 is never applied."""
  cross = "pooler.cross_attention_block"
  return [
    Rule(f"{ours}/query", "pooler.query_tokens"),
    *_norm(rf"{ours}/cross/norm([12])", rf"{cross}.norm\1"),
    *_pair(rf"{ours}/cross/(q|kv)", rf"{cross}.xattn.\1"),
    *_pair(rf"{ours}/cross/fc([12])", rf"{cross}.mlp.fc\1"),
    *_block(rf"{ours}/block_(\d+)", r"pooler.blocks.\1"),
    *_pair(f"{ours}/classifier", "linear"),
  ]


def detect(flat: Flat) -> Detected | None:
  """Returns the encoder of a file; None if it is another's.

  The teacher's arrays are read if there are any. Heads are those of the published widths. A file of
  version 2 has another number of mask tokens than two, or no table of positions; if neither tells, as
  in files of the encoder alone, set `positions="rotary"`.
  """
  kernels = [n for n in flat if n.endswith("patch_embed.proj.weight") and flat[n].ndim == 5]
  if not kernels:
    return None
  kernel = next((n for n in kernels if n.startswith("target_encoder")), kernels[0])
  prefix = kernel.removesuffix("patch_embed.proj.weight")
  if f"{prefix}blocks.0.attn.qkv.weight" not in flat:
    return None
  return Detected(
    _config(flat, prefix), functools.partial(encoder_rules, theirs=prefix), _ignored(prefix)
  )


def _ignored(prefix: str) -> str:
  """Returns the pattern of all that is not of the encoder below a prefix: students, optimisers."""
  table = TABLES if not prefix else rf"(?!{re.escape(prefix)}).*|{TABLES}"
  return rf"{table}|(.*[./])?(predictor_|mask_tokens\.).*"


def _config(flat: Flat, prefix: str) -> Config:
  at = re.escape(prefix)
  dim, channels, tubelet, patch, _ = flat[f"{prefix}patch_embed.proj.weight"].shape
  mlp_dim = shape_of(flat, rf"{at}blocks\.0\.mlp\.fc1\.bias", (4 * dim,))[0]
  tokens = count_of(flat, r".*mask_tokens\.(\d+)")
  table = f"{prefix}pos_embed"
  rotary = table not in flat or tokens > 2
  num = shape_of(flat, re.escape(table), (1, 0, dim))[1]
  side = patch * (math.isqrt(num // 8) if num and not rotary else 256 // max(patch, 1))
  heads = {1408: 22 if rotary else 16, 1280: 16}.get(dim, max(1, dim // 64))
  return Config(
    num_frames=16 if not rotary else 64,
    height=side,
    width=side,
    channels=channels,
    patch=patch,
    tubelet=tubelet,
    dim=dim,
    num_layers=count_of(flat, rf"{at}blocks\.(\d+)\."),
    num_heads=heads,
    mlp_dim=0 if mlp_dim == 4 * dim else mlp_dim,
    positions="rotary" if rotary else "table",
    predictor=PredictorConfig(
      num_heads=12 if rotary else heads, num_mask_tokens=tokens or (10 if rotary else 2)
    ),
  )
