"""Published weights of RVM: names of the flat files, from our names."""

from perceiver_stream.models import rvm
from perceiver_stream.zoo.moog_weights import dense, merge_heads, mlp, norm, split_heads
from perceiver_stream.zoo.translation import Rule

_IN_OUT = ("dense_in", "dense_out")


def _attention(ours: str, theirs: str, num_heads: int) -> list[Rule]:
  split, merge = split_heads(num_heads), merge_heads(num_heads)
  return [
    Rule(f"{ours}/(query|key|value)/w", rf"{theirs}/\1/kernel", split),
    Rule(f"{ours}/(query|key|value)/b", rf"{theirs}/\1/bias", split),
    Rule(f"{ours}/output/w", f"{theirs}/out/kernel", merge),
    Rule(f"{ours}/output/b", f"{theirs}/out/bias"),
  ]


def _read_stack(ours: str, theirs: str, config: rvm.LayersConfig) -> list[Rule]:
  rules = norm(f"{ours}/norm", f"{theirs}/output_norm")
  for i in range(config.num_layers):
    a, b = f"{ours}/block_{i}", f"{theirs}/xa_blocks_{i}"
    rules += [
      *norm(f"{a}/cross_norm", f"{b}/ca_attention_norm"),
      *norm(f"{a}/mlp_norm", f"{b}/mlp_norm"),
      *norm(f"{a}/self_norm", f"{b}/attention_norm"),
      *mlp(f"{a}/mlp", f"{b}/mlp", _IN_OUT),
      *_attention(f"{a}/cross_attention", f"{b}/ca_attention", config.num_heads),
      *_attention(f"{a}/self_attention", f"{b}/attention", config.num_heads),
    ]
  return rules


def _encoder(config: rvm.LayersConfig) -> list[Rule]:
  rules = norm("rvm/encoder_norm", "encoder/LayerNorm_0")
  for i in range(config.num_layers):
    a, b = f"rvm/encoder_{i}", f"encoder/layers_{i}"
    rules += [
      *norm(f"{a}/attention_norm", f"{b}/attention_norm"),
      *norm(f"{a}/mlp_norm", f"{b}/mlp_norm"),
      *mlp(f"{a}/mlp", f"{b}/mlp", _IN_OUT),
      *_attention(f"{a}/attention", f"{b}/attention", config.num_heads),
    ]
  return rules


def rules(config: rvm.Config) -> list[Rule]:
  """Returns the rules of `Rvm`; the file's names have no prefix."""
  patch = "tokenizer/patch_embedding/Conv_0"
  side = config.patch
  return [
    Rule("rvm/patches/w", f"{patch}/kernel", lambda s: (1, side, side, s[0] // side**2, s[1])),
    Rule("rvm/patches/b", f"{patch}/bias"),
    Rule("rvm/(cls_token|mask_token)", r"\1"),
    Rule(r"rvm/(update|reset)_(input|state)/w", r"rnn_core/\2_\1/kernel"),
    Rule("rvm/state_norm/scale", "rnn_core/state_layer_norm/scale"),
    *_encoder(config.encoder),
    *_read_stack("rvm/core", "rnn_core/transformer", config.core),
    *_read_stack("rvm/decoder", "decoder", config.decoder),
    *dense("rvm/decoder_input", "decoder_embedder"),
    *dense("rvm/delta", "delta_embedder"),
    *dense("rvm/pixels", "detokenizer/Dense_0"),
  ]
