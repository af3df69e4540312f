"""Published weights of ViViT: names of scenic's parameters, joined by slashes."""

from perceiver_stream.models.mapping import Detected, Flat, Rule, count_of, shape_of
from perceiver_stream.models.moog.weights import dense, merge_heads, norm, split_heads
from perceiver_stream.models.vivit.config import Config, Kind


def _attention(ours: str, theirs: str, num_heads: int) -> list[Rule]:
  split, merge = split_heads(num_heads), merge_heads(num_heads)
  return [
    Rule(f"{ours}/(query|key|value)/w", rf"{theirs}/\2/kernel", split),
    Rule(f"{ours}/(query|key|value)/b", rf"{theirs}/\2/bias", split),
    Rule(f"{ours}/output/w", f"{theirs}/out/kernel", merge),
    Rule(f"{ours}/output/b", f"{theirs}/out/bias"),
  ]


def _transformer(ours: str, theirs: str, config: Config) -> list[Rule]:
  block, layer = rf"{ours}/block_(\d+)", rf"{theirs}/encoderblock_\1"
  heads = config.num_heads
  three = config.kind == "factorized_self_attention_block"
  attention, normed = "MultiHeadDotProductAttention", "LayerNorm"
  branches = (
    [
      ("time", f"{attention}_time", f"{normed}_time"),
      ("space", f"{attention}_space", f"{normed}_space"),
    ]
    if three
    else [("attention", f"{attention}_0", f"{normed}_0")]
  )
  rules = [
    Rule(f"{ours}/positions", f"{theirs}/posembed_input/pos_embedding", lambda s: (1, *s)),
    *norm(f"{ours}/norm", f"{theirs}/encoder_norm"),
    *norm(f"{block}/mlp_norm", f"{layer}/{normed}_{'mlp' if three else '1'}"),
    *dense(f"{block}/hidden", f"{layer}/MlpBlock{'' if three else '_0'}/Dense_0"),
    *dense(f"{block}/output", f"{layer}/MlpBlock{'' if three else '_0'}/Dense_1"),
  ]
  for name, there, norm_there in branches:
    rules += norm(f"{block}/{name}_norm", f"{layer}/{norm_there}")
    rules += _attention(f"{block}/{name}", f"{layer}/{there}", heads)
  return rules


def rules(config: Config) -> list[Rule]:
  """Returns the names in a checkpoint of scenic."""
  one = lambda s: (1, 1, *s)  # noqa: E731
  return [
    Rule("vivit/tubelets/w", "embedding/kernel"),
    Rule("vivit/tubelets/b", "embedding/bias"),
    Rule("vivit/class_token", "cls", one),
    Rule("vivit/spatial_class_token", "cls_SpatialTransformer", one),
    Rule("vivit/temporal_class_token", "cls_TemporalTransformer", one),
    *_transformer("vivit/transformer", "Transformer", config),
    *_transformer("vivit/spatial", "SpatialTransformer", config),
    *_transformer("vivit/temporal", "TemporalTransformer", config),
    *dense("vivit/classifier", "output_projection"),
  ]


def detect(flat: Flat) -> Detected | None:
  """Returns the model of a checkpoint; None if it is no ViViT.

  A file with names of model 1 and no class token is model 1: model 4 has the same names and needs
  `kind="factorized_dot_product_attention"`. Frames are square, as published.
  """
  if not {"embedding/kernel", "output_projection/kernel"} <= set(flat):
    return None
  tubelet = shape_of(flat, "embedding/kernel", (2, 16, 16, 3, 768))
  two = any(name.startswith("SpatialTransformer/") for name in flat)
  three = any("/LayerNorm_time/" in name for name in flat)
  stack = "SpatialTransformer" if two else "Transformer"
  token = any(name.startswith("cls") for name in flat)
  heads = shape_of(flat, rf"{stack}/encoderblock_0/.*/query/kernel", (768, 12, 64))[1]
  kind: Kind = "factorized_encoder" if two else "spacetime"
  kind = "factorized_self_attention_block" if three else kind
  num = shape_of(flat, f"{stack}/posembed_input/pos_embedding", (1, 3137, 768))[1] - token
  published = Config()
  times = published.num_frames // max(tubelet[0], 1)
  if two:
    times = shape_of(flat, "TemporalTransformer/posembed_input/pos_embedding", (1, 17, 768))[1]
    times -= token
  side = round(max(num if two else num / max(times, 1), 0) ** 0.5)
  config = Config(
    kind=kind,
    num_frames=times * tubelet[0],
    height=side * tubelet[1],
    width=side * tubelet[2],
    patch_frames=tubelet[0],
    patch_height=tubelet[1],
    patch_width=tubelet[2],
    dim=tubelet[4],
    num_layers=count_of(flat, rf"{stack}/encoderblock_(\d+)/"),
    num_temporal_layers=count_of(flat, r"TemporalTransformer/encoderblock_(\d+)/") if two else 4,
    num_heads=heads,
    mlp_dim=shape_of(flat, rf"{stack}/encoderblock_0/MlpBlock.*/Dense_0/bias", (3072,))[0],
    classifier="token" if token else "gap",
    num_classes=shape_of(flat, "output_projection/bias", (400,))[0],
  )
  return Detected(config, rules)
