"""Published weights of TAPNext (flat .npz) and TAPNext++ (torch): names for each of our names."""

import re

import numpy as np

from perceiver_stream.models.mapping import Detected, Flat, Rule, shape_of
from perceiver_stream.models.moog.weights import dense, norm
from perceiver_stream.models.tapnext.config import Config
from perceiver_stream.models.trecvit_classifier.weights import (
  backbone_config,
  griffin_block,
  patches,
  vit_block,
)

_JAX = "backbone/Transformer/encoderblock_"
_HEADS = {"coordinates": "coordinate_head", "visible": "visible_head"}
_TORCH_MARK = "blocks.0.ssm_block.temporal_pre_norm.scale"
_TORCH_GATE = "blocks.0.ssm_block.recurrent_block.rg_lru.a_gate.w"  # one block per head


def rules(config: Config) -> list[Rule]:
  """Returns the rules of `TapNext`: names of the flat .npz, which `prepare` also gives to torch's."""
  found = [
    *patches("tapnext/patches", "backbone/embedding", config.patch),
    Rule("tapnext/positions", "backbone/pos_embedding", lambda s: (1, *s)),
    Rule("tapnext/mask_token", "backbone/mask_token", lambda s: (1, 1, 1, *s)),
    Rule("tapnext/query_token", "backbone/point_query_token", lambda s: (1, 1, 1, *s)),
    Rule("tapnext/unknown_token", "backbone/unknown_token", lambda s: (1, 1, *s)),
    *norm("tapnext/norm", "backbone/Transformer/encoder_norm"),
  ]
  for ours, theirs in _HEADS.items():
    for i in range(3):
      found += dense(f"tapnext/heads/{ours}_{i}", f"{theirs}/layers_{3 * i}")
      found += norm(f"tapnext/heads/{ours}_norm_{i}", f"{theirs}/layers_{3 * i + 1}")
  for i in range(config.backbone.num_layers):
    block = "tapnext/backbone"
    found += griffin_block(f"{block}/time_{i}", f"{_JAX}{i}/ssm_block")
    found += vit_block(f"{block}/space_{i}", f"{_JAX}{i}/vit_block", config.backbone.num_heads)
  return found


def detect(flat: Flat) -> Detected | None:
  """Returns the model of prepared arrays; None if they have other names."""
  if not any(name.startswith(_JAX) for name in flat):
    return None
  ignore = "flavour" if "flavour" in flat else ""
  return Detected(_config(flat), rules, ignore)


def _config(flat: Flat) -> Config:
  """Returns the config of a file; the table is square, as published."""
  embedding = shape_of(flat, "backbone/embedding/kernel", (1, 8, 8, 3, 768))
  tokens = shape_of(flat, "backbone/pos_embedding", (1, 1024, 768))[1]
  side = round(tokens**0.5) * embedding[1]
  head = shape_of(flat, "coordinate_head/layers_6/kernel", (256, 512))
  block = rf"{_JAX}\d+"
  return Config(
    height=side,
    width=side,
    patch=embedding[1],
    table=(side, side),
    backbone=backbone_config(flat, f"{block}/ssm_block", f"{block}/vit_block", _JAX),
    bins=head[1] // 2,
    head_dim=head[0],
    flavour="torch" if "flavour" in flat else "jax",
  )


# --- torch files: the same arrays under other names and transposed ---

_TORCH = (
  (r"mask_token|unknown_token|point_query_token", r"backbone/\g<0>"),
  (r"image_pos_emb", "backbone/pos_embedding"),
  (r"lin_proj\.(weight|bias)", r"backbone/embedding/\1"),
  (r"encoder_norm\.(weight|bias)", r"backbone/Transformer/encoder_norm/\1"),
  (r"blocks\.(\d+)\.vit_block\.ln_1\.(weight|bias)", rf"{_JAX}\1/vit_block/LayerNorm_0/\2"),
  (r"blocks\.(\d+)\.vit_block\.ln_2\.(weight|bias)", rf"{_JAX}\1/vit_block/LayerNorm_1/\2"),
  (
    r"blocks\.(\d+)\.vit_block\.mlp\.0\.(weight|bias)",
    rf"{_JAX}\1/vit_block/MlpBlock_0/Dense_0/\2",
  ),
  (
    r"blocks\.(\d+)\.vit_block\.mlp\.3\.(weight|bias)",
    rf"{_JAX}\1/vit_block/MlpBlock_0/Dense_1/\2",
  ),
  (
    r"blocks\.(\d+)\.vit_block\.self_attention\.(query|key|value|out)\.(weight|bias)",
    rf"{_JAX}\1/vit_block/MultiHeadDotProductAttention_0/\2/\3",
  ),
  (r"(visible|coordinate)_head\.(\d)\.(weight|bias)", r"\1_head/layers_\2/\3"),
)


def prepare(flat: Flat) -> Flat:
  """Returns the arrays of a torch file under the names and in the layout of the .npz; others as is.

  Buffers that are computed, and the wrapping of a training checkpoint, are left out.
  """
  bare = {
    re.sub(r"^(state_dict[./])?(tapnext\.)?", "", name): value for name, value in flat.items()
  }
  if _TORCH_MARK not in bare:
    return flat
  bare.pop("query_pos_embed", None)
  heads = max(shape_of(bare, re.escape(_TORCH_GATE), (1, 0, 0))[0], 1)
  found: Flat = {"flavour": np.zeros(0, np.float32)}
  for name, value in _split_attention(bare).items():
    named = _translated(name)
    found[named] = _laid_out(named, value, heads)
  return found


def _split_attention(flat: Flat) -> Flat:
  """Returns arrays with separate maps of queries, keys and values."""
  found: Flat = {}
  for name, value in flat.items():
    if (match := re.fullmatch(r"(.*\.self_attention)\.in_proj_(weight|bias)", name)) and value.ndim:
      parts = np.array_split(value, 3)
      for kind, part in zip(("query", "key", "value"), parts, strict=True):
        found[f"{match[1]}.{kind}.{match[2]}"] = part
    else:
      found[name.replace("out_proj", "out")] = value
  return found


def _translated(name: str) -> str:
  for theirs, npz in _TORCH:
    if match := re.fullmatch(theirs, name):
      name = match.expand(npz)
      break
  else:
    if match := re.fullmatch(r"blocks\.(\d+)\.ssm_block\.(.*)", name):
      name = f"{_JAX}{match[1]}/ssm_block/{match[2].replace('.', '/')}"
  is_norm = re.search(r"LayerNorm_\d/weight$|encoder_norm/weight$|layers_[14]/weight$", name)
  return re.sub("weight$", "scale" if is_norm else "kernel", name)


def _laid_out(name: str, value: np.ndarray, heads: int) -> np.ndarray:
  """Returns an array in the layout of the .npz: transposed matrices, attention split into heads."""
  if name.endswith("embedding/kernel"):
    return value.transpose(2, 3, 1, 0)[None] if value.ndim == 4 else value
  if name.endswith("kernel") and value.ndim == 2:
    value = value.T
  split = re.search(r"Attention_0/(query|key|value|out)/(kernel|bias)$", name)
  if not split or not value.size or not value.ndim:
    return value
  if split[1] == "out":
    whole = split[2] == "kernel" and value.shape[0] % heads == 0
    return value.reshape(heads, -1, value.shape[-1]) if whole else value
  if value.shape[-1] % heads:
    return value
  return value.reshape(*value.shape[:-1], heads, -1)
