"""Published weights of TRecViT: names in the flat files for each of our names."""

from perceiver_stream.core.lru import GatedLruConfig
from perceiver_stream.core.recurrent_vit import RecurrentVitConfig
from perceiver_stream.models.mapping import Detected, Flat, Rule, count_of, shape_of
from perceiver_stream.models.moog.weights import dense, merge_heads, mlp, norm, split_heads
from perceiver_stream.models.trecvit_classifier.classifier import Config

_BLOCK = "encoder/residualblock_"


def griffin_block(ours: str, theirs: str) -> list[Rule]:
  """Returns the rules of a `GriffinBlock`: a residual block of recurrentgemma."""
  lru, block = f"{ours}/lru", f"{theirs}/recurrent_block"
  return [
    Rule(f"{ours}/time_norm/scale", f"{theirs}/temporal_pre_norm/scale"),
    *dense(f"{lru}/gate", f"{block}/linear_y"),
    *dense(f"{lru}/input", f"{block}/linear_x"),
    *dense(f"{lru}/output", f"{block}/linear_out"),
    Rule(f"{lru}/conv_(w|b)", rf"{block}/conv_1d/\1"),
    Rule(f"{lru}/decay", f"{block}/rg_lru/a_param"),
    Rule(f"{lru}/input_gate/(w|b)", rf"{block}/rg_lru/input_gate/\1"),
    Rule(f"{lru}/recurrence_gate/(w|b)", rf"{block}/rg_lru/a_gate/\1"),
    Rule(f"{ours}/mlp_norm/scale", f"{theirs}/channel_pre_norm/scale"),
    Rule(f"{ours}/mlp/up_w", f"{theirs}/mlp_block/ffw_up/w"),
    Rule(f"{ours}/mlp/up_b", f"{theirs}/mlp_block/ffw_up/b", lambda s: (2, 1, 1, s[1])),
    *dense(f"{ours}/mlp/down", f"{theirs}/mlp_block/ffw_down"),
  ]


def vit_block(ours: str, theirs: str, num_heads: int) -> list[Rule]:
  """Returns the rules of a `SelfBlock`: a transformer block of big_vision."""
  attention, split = f"{theirs}/MultiHeadDotProductAttention_0", split_heads(num_heads)
  return [
    *norm(f"{ours}/attention_norm", f"{theirs}/LayerNorm_0"),
    Rule(f"{ours}/attention/(query|key|value)/w", rf"{attention}/\1/kernel", split),
    Rule(f"{ours}/attention/(query|key|value)/b", rf"{attention}/\1/bias", split),
    Rule(f"{ours}/attention/output/w", f"{attention}/out/kernel", merge_heads(num_heads)),
    Rule(f"{ours}/attention/output/b", f"{attention}/out/bias"),
    *norm(f"{ours}/mlp_norm", f"{theirs}/LayerNorm_1"),
    *mlp(f"{ours}/mlp", f"{theirs}/MlpBlock_0"),
  ]


def patches(ours: str, theirs: str, side: int) -> list[Rule]:
  """Returns the rules of a patch embedding, in the file a 3-D convolution over one frame."""
  return [
    Rule(f"{ours}/w", f"{theirs}/kernel", lambda s: (1, side, side, s[0] // side**2, s[1])),
    Rule(f"{ours}/b", f"{theirs}/bias"),
  ]


def rules(config: Config) -> list[Rule]:
  """Returns the rules of `Classifier`."""
  model = "trecvit_classifier"
  found = [
    *patches(f"{model}/patches", "tokenizer/embedding", config.patch),
    Rule(f"{model}/positions", "tokenizer/pos_embedding", lambda s: (1, *s)),
    Rule(f"{model}/class_token", "tokenizer/cls", lambda s: (1, 1, *s)),
    *norm(f"{model}/norm", "encoder/encoder_norm"),
    *dense(f"{model}/representation", "decoder/pre_logits"),
    *dense(f"{model}/classes", "decoder/cls_head"),
  ]
  for i in range(config.backbone.num_layers):
    block = f"{model}/backbone"
    found += griffin_block(f"{block}/time_{i}", f"{_BLOCK}{i:02d}")
    found += vit_block(f"{block}/space_{i}", f"encoder/encoderblock_{i}", config.backbone.num_heads)
  return found


def detect(flat: Flat) -> Detected | None:
  """Returns the model of a flat classifier file; None if the file has other names."""
  found = any(name.startswith(_BLOCK) for name in flat)
  return Detected(_config(flat), rules) if found else None


def backbone_config(flat: Flat, time: str, space: str, prefix: str) -> RecurrentVitConfig:
  """Returns the sizes of a backbone.

  Args:
    flat: Arrays of the file.
    time: Pattern of the names of a recurrent block.
    space: Pattern of the names of a transformer block.
    prefix: Pattern of a block's name up to its number.
  """
  gates = shape_of(flat, f"{time}/recurrent_block/rg_lru/a_gate/w", (12, 128, 128))
  conv = shape_of(flat, f"{time}/recurrent_block/conv_1d/w", (4, gates[0] * gates[1]))
  heads = shape_of(flat, f"{space}/MultiHeadDotProductAttention_0/query/kernel", (768, 12, 64))
  hidden = shape_of(flat, f"{space}/MlpBlock_0/Dense_0/kernel", (heads[0], 3072))
  return RecurrentVitConfig(
    dim=heads[0],
    num_layers=count_of(flat, rf"{prefix}(\d+)/"),
    num_heads=heads[1],
    mlp_dim=hidden[1],
    time_mlp_dim=shape_of(flat, f"{time}/mlp_block/ffw_up/w", (2, 0, 0))[2],
    lru=GatedLruConfig.released(conv[1], gates[0], conv_width=conv[0], min_radius=0.5),
  )


def _config(flat: Flat) -> Config:
  """Returns the config of a file; frames are square, as published."""
  embedding = shape_of(flat, "tokenizer/embedding/kernel", (1, 16, 16, 3, 768))
  tokens = shape_of(flat, "tokenizer/pos_embedding", (1, 196, 768))[1]
  side = round(tokens**0.5) * embedding[1]
  head = shape_of(flat, "decoder/cls_head/kernel", (3072, 400))
  return Config(
    height=side,
    width=side,
    patch=embedding[1],
    backbone=backbone_config(flat, rf"{_BLOCK}\d+", r"encoder/encoderblock_\d+", _BLOCK),
    rep_dim=head[0],
    num_classes=head[1],
  )
