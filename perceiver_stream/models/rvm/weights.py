"""Published weights of RVM: names in the flat files for each of our names."""

from perceiver_stream.models.mapping import Detected, Flat, Rule, count_of, shape_of
from perceiver_stream.models.moog.weights import dense, merge_heads, mlp, norm, split_heads
from perceiver_stream.models.rvm import config as rvm

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


# --- detection of the config of a file ---


def detect(flat: Flat) -> Detected | None:
  """Returns the model of a flat file of RVM; None if the file has other names."""
  if any(name.startswith("rnn_core/") for name in flat):
    return Detected(rvm_config(flat), rules)
  return None


def _rvm_layers(
  flat: Flat, block: str, query: str, published: rvm.LayersConfig
) -> rvm.LayersConfig:
  kernel = (0, published.num_heads, 0)
  return rvm.LayersConfig(
    num_layers=count_of(flat, rf"{block}(\d+)/") or published.num_layers,
    num_heads=shape_of(flat, rf"{block}\d+/{query}/(query|key|value)/kernel", kernel)[1],
    mlp_dim=shape_of(flat, rf"{block}\d+/mlp/dense_in/kernel", (0, published.mlp_dim))[1],
  )


def rvm_config(flat: Flat) -> rvm.Config:
  """Returns the config of an RVM file; frame size and position grid are the published ones."""
  published = rvm.Config()
  dim = shape_of(flat, "cls_token|encoder/LayerNorm_0/scale", (published.dim,))[-1]
  patches = shape_of(flat, "tokenizer/patch_embedding/Conv_0/kernel", (1, 16, 16, 3, dim))
  decoder = _rvm_layers(flat, "decoder/xa_blocks_", "ca_attention", published.decoder)
  decoder.dim = shape_of(flat, "decoder_embedder/bias", (published.decoder.dim or 0,))[0]
  return rvm.Config(
    channels=patches[3],
    patch=patches[1],
    dim=patches[-1],
    encoder=_rvm_layers(flat, "encoder/layers_", "attention", published.encoder),
    core=_rvm_layers(flat, "rnn_core/transformer/xa_blocks_", "ca_attention", published.core),
    decoder=decoder,
  )
