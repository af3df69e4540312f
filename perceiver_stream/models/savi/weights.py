"""Names of SAVi's arrays in flax; no weights were released, only golden files have them."""

from perceiver_stream.models.mapping import Rule
from perceiver_stream.models.moog.weights import dense, merge_heads, norm, split_heads
from perceiver_stream.models.savi.network import Config

_GATES = {"reset": "r", "keep": "z", "new": "n"}


def rules(config: Config) -> list[Rule]:
  """Returns the rules of `Savi`."""
  s, cell = config.slots, "SlotAttention_0/GRU_0/GRUCell_0"
  slots, block, attention = "savi/slots", "TransformerBlock_0", "MultiHeadDotProductAttention_0"
  frame, broadcast = "FrameEncoder_0", "SpatialBroadcastDecoder_0"
  found = [
    Rule(r"savi/conv_(\d)/w", rf"{frame}/CNN_0/conv_\1/kernel"),
    Rule(r"savi/conv_(\d)/b", rf"{frame}/CNN_0/conv_\1/bias"),
    Rule(r"savi/decoder_conv_(\d)/w", rf"{broadcast}/CNN_0/conv_\1/kernel"),
    Rule(r"savi/decoder_conv_(\d)/b", rf"{broadcast}/CNN_0/conv_\1/bias"),
    *_mlp("savi/encoder_mlp", f"{frame}/PositionEmbedding_0/MLP_0"),
    *_mlp("savi/cue_mlp", "CoordinateEncoderStateInit_0/MLP_0"),
    *dense("savi/mask", f"{broadcast}/alpha_logits"),
    *dense("savi/target", f"{broadcast}/Readout_0/Dense_0/Dense_0"),
    Rule(f"{slots}/first", "ParamStateInit_0/state_init"),
    *norm(f"{slots}/slot_norm", "SlotAttention_0/LayerNorm_0"),
    *norm(f"{slots}/token_norm", "SlotAttention_0/LayerNorm_1"),
    *_mlp(f"{slots}/mlp", "SlotAttention_0/MLP_0"),
    *_mlp(f"{slots}/predictor_mlp", f"{block}/MLP_0"),
    *norm(f"{slots}/predictor_norm_0", f"{block}/LayerNorm_0"),
    *norm(f"{slots}/predictor_norm_1", f"{block}/LayerNorm_1"),
  ]
  for ours, theirs in (("encoder", frame), ("decoder", broadcast)):
    place = f"{theirs}/PositionEmbedding_0"
    found += dense(f"savi/{ours}_position", f"{place}/dense_pe_0")
    found += [Rule(f"savi/{ours}_positions", f"{place}/pos_embedding", lambda x: (1, *x))]
  for name in ("query", "key", "value"):
    theirs = f"SlotAttention_0/general_dense_{name[0]}_0/kernel"
    found += [Rule(f"{slots}/{name}/w", theirs, split_heads(s.num_heads))]
    split, there = split_heads(s.predictor_heads), f"{block}/{attention}/{name}"
    found += [
      Rule(f"{slots}/predictor_{name}/w", f"{there}/kernel", split),
      Rule(f"{slots}/predictor_{name}/b", f"{there}/bias", split),
    ]
  found += [
    Rule(
      f"{slots}/predictor_output/w",
      f"{block}/{attention}/out/kernel",
      merge_heads(s.predictor_heads),
    ),
    Rule(f"{slots}/predictor_output/b", f"{block}/{attention}/out/bias"),
    Rule(
      f"{slots}/merge/w",
      "SlotAttention_0/InvertedDotProductAttention_0/DenseGeneral_0/kernel",
      merge_heads(s.num_heads),
    ),
    Rule(f"{slots}/merge/b", "SlotAttention_0/InvertedDotProductAttention_0/DenseGeneral_0/bias"),
  ]
  for ours, letter in _GATES.items():
    found += dense(f"{slots}/gru/{ours}_input", f"{cell}/i{letter}")
    found += dense(f"{slots}/gru/{ours}_state", f"{cell}/h{letter}")
  return found


def _mlp(ours: str, theirs: str) -> list[Rule]:
  return [
    *norm(f"{ours}/norm", f"{theirs}/LayerNorm_0"),
    *dense(f"{ours}/hidden", f"{theirs}/dense_mlp_0"),
    *dense(f"{ours}/output", f"{theirs}/dense_mlp_1"),
  ]
