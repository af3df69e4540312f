"""Published weights of TimeSformer: names of the released state dicts."""

from perceiver_stream.models.mapping import Detected, Flat, Rule, Shape, count_of, shape_of
from perceiver_stream.models.timesformer.config import Config
from perceiver_stream.models.video_resnet.weights import torch_linear


def _one(shape: Shape) -> Shape:
  return (1, *shape)


def _norm(ours: str, theirs: str) -> list[Rule]:
  return [Rule(f"{ours}/scale", f"{theirs}.weight"), Rule(f"{ours}/offset", f"{theirs}.bias")]


def rules(config: Config) -> list[Rule]:
  """Returns the names in a state dict, without the wrapper's `model.`."""
  block, layer = r"timesformer/block_(\d+)", r"blocks.\1"
  return [
    Rule("timesformer/class_token", "cls_token", lambda s: (1, 1, *s)),
    Rule("timesformer/positions", "pos_embed", _one),
    Rule("timesformer/times", "time_embed", _one),
    Rule("timesformer/patches_w", "patch_embed.proj.weight", axes=(3, 2, 0, 1)),
    Rule("timesformer/patches_b", "patch_embed.proj.bias"),
    *_norm(f"{block}/norm", f"{layer}.norm1"),
    *torch_linear(f"{block}/attention/qkv", f"{layer}.attn.qkv"),
    *torch_linear(f"{block}/attention/output", f"{layer}.attn.proj"),
    *_norm(f"{block}/time_norm", f"{layer}.temporal_norm1"),
    *torch_linear(f"{block}/time/qkv", f"{layer}.temporal_attn.qkv"),
    *torch_linear(f"{block}/time/output", f"{layer}.temporal_attn.proj"),
    *torch_linear(f"{block}/time_output", f"{layer}.temporal_fc"),
    *_norm(f"{block}/mlp_norm", f"{layer}.norm2"),
    *torch_linear(f"{block}/hidden", f"{layer}.mlp.fc1"),
    *torch_linear(f"{block}/output", f"{layer}.mlp.fc2"),
    *_norm("timesformer/norm", "norm"),
    *torch_linear("timesformer/classifier", "head"),
  ]


def detect(flat: Flat) -> Detected | None:
  """Returns the model of a state dict; None if it is no TimeSformer.

  A ViT of timm has the names of the space-only model. Heads have 64 channels, and positions are for
  square frames, as published.
  """
  patches = flat.get("patch_embed.proj.weight")
  known = {"cls_token", "pos_embed"} & set(flat)
  if not known or patches is None or len(patches.shape) != 4:
    return None
  dim, _, patch, _ = patches.shape
  times = shape_of(flat, "time_embed", (1, 8, dim))[1]
  divided = any(".temporal_attn." in name for name in flat)
  side = round(max(shape_of(flat, "pos_embed", (1, 197, dim))[1] - 1, 0) ** 0.5)
  config = Config(
    kind="divided_space_time"
    if divided
    else "joint_space_time"
    if "time_embed" in flat
    else "space_only",
    num_frames=times,
    height=side * patch,
    width=side * patch,
    patch=patch,
    dim=dim,
    num_layers=count_of(flat, r"blocks\.(\d+)\."),
    num_heads=max(dim // 64, 1),
    mlp_dim=shape_of(flat, r"blocks\.\d+\.mlp\.fc1\.bias", (4 * dim,))[0],
    num_classes=shape_of(flat, r"head\.bias", (400,))[0],
  )
  return Detected(config, rules)
