"""Published weights of MooG: names of the flat files, from our names."""

from collections.abc import Callable

from perceiver_stream.models import moog, moog_readouts
from perceiver_stream.zoo.translation import Rule, Shape


def split_heads(num_heads: int) -> Callable[[Shape], Shape]:
  """Returns how a file splits the last axis into heads."""

  def shape(ours: Shape) -> Shape:
    return (*ours[:-1], num_heads, ours[-1] // num_heads)

  return shape


def merge_heads(num_heads: int) -> Callable[[Shape], Shape]:
  """Returns how a file splits the first axis into heads."""

  def shape(ours: Shape) -> Shape:
    return (num_heads, ours[0] // num_heads, ours[1])

  return shape


def dense(ours: str, theirs: str) -> list[Rule]:
  """Rules of one dense layer."""
  return [Rule(f"{ours}/w", f"{theirs}/kernel"), Rule(f"{ours}/b", f"{theirs}/bias")]


def norm(ours: str, theirs: str) -> list[Rule]:
  """Rules of a norm with offset."""
  return [Rule(f"{ours}/scale", f"{theirs}/scale"), Rule(f"{ours}/offset", f"{theirs}/bias")]


def mlp(ours: str, theirs: str, names: tuple[str, str] = ("Dense_0", "Dense_1")) -> list[Rule]:
  """Rules of an MLP."""
  hidden, output = names
  return [
    *dense(f"{ours}/hidden", f"{theirs}/{hidden}"),
    *dense(f"{ours}/output", f"{theirs}/{output}"),
  ]


def _stack(ours: str, theirs: str, config: moog.StackConfig) -> list[Rule]:
  """Rules of a `Stack`."""
  rules = [
    *dense(f"{ours}/input", f"{theirs}/Dense_0"),
    *dense(f"{ours}/output", f"{theirs}/Dense_1"),
    Rule(f"{ours}/norm/scale", f"{theirs}/norm_encoder/scale"),
  ]
  split, merge = split_heads(config.num_heads), merge_heads(config.num_heads)
  for i in range(config.num_layers):
    a, b = f"{ours}/block_{i}", f"{theirs}/layer_{i}"
    rules += [
      Rule(f"{a}/attention_norm/scale", f"{b}/norm_q/scale"),
      Rule(f"{a}/mlp_norm/scale", f"{b}/norm_attn/scale"),
      *mlp(f"{a}/mlp", b, ("MLP_in", "MLP_out")),
    ]
    for kind in ("self", "cross"):
      x, y = f"{a}/{kind}_attention", f"{b}/{kind}_att"
      rules += [
        Rule(f"{x}/(query|key|value)/w", rf"{y}/dense_\1/kernel", split),
        Rule(f"{x}/(query|key)_norm/scale", rf"{y}/norm_\1/scale"),
        Rule(f"{x}/output/w", f"{y}/dense_out/kernel", merge),
        Rule(f"{x}/output/b", f"{y}/dense_out/bias"),
      ]
  return rules


def dense_decoder(ours: str, theirs: str, config: moog.DecoderConfig) -> list[Rule]:
  """Rules of a `DenseDecoder`."""
  return [
    *dense(f"{ours}/output", f"{theirs}/recon"),
    *dense(f"{ours}/position_projection", f"{theirs}/pos_embedding/dense_pe"),
    *_stack(f"{ours}/stack", f"{theirs}/transformer", config.stack),
  ]


def backbone(theirs: str, config: moog.Config) -> list[Rule]:
  """Rules of `Moog`, below the file's prefix `theirs` (with its slash)."""
  e = f"{theirs}encoder"
  predictor, corrector, norm = (
    ("predictor_sa", "predictor_ca", "state_layer_norm")
    if config.norm_first
    else ("predictor", "corrector", "correction_layer_norm")
  )
  return [
    Rule(r"moog/encoder/convs/conv_(\d+)/w", rf"{e}/backbone/Conv_\1/kernel"),
    Rule(r"moog/encoder/convs/conv_(\d+)/b", rf"{e}/backbone/Conv_\1/bias"),
    Rule("moog/encoder/conv_norm/scale", f"{e}/backbone/LayerNorm_0/scale"),
    *dense("moog/encoder/position_projection", f"{e}/pos_embedding/dense_pe"),
    *_stack("moog/encoder/stack", f"{e}/transformer", moog.StackConfig(num_layers=0)),
    *_stack("moog/predictor", f"{theirs}{predictor}", config.predictor),
    *_stack("moog/corrector", f"{theirs}{corrector}", config.corrector),
    *dense("moog/gradient_projection", f"{theirs}state_grad_projector"),
    Rule("moog/state_norm/scale", f"{theirs}{norm}/scale"),
    *(dense_decoder("moog/decoder", f"{theirs}decoder", config.decoder) if config.decoder else []),
  ]


def clip_readout(ours: str, theirs: str, config: moog_readouts.ClipConfig) -> list[Rule]:
  """Rules of a `ClipReadout`."""
  split = split_heads(config.num_heads)
  a, b = ours, f"{theirs}/attention_readout"
  return [
    *mlp(f"{a}/query_mlp", f"{theirs}/query_initializer/layers_1"),
    Rule(f"{a}/tile/pos_embs", f"{theirs}/temporal_tile_posenc/embeddings"),
    Rule(
      f"{a}/frame/pos_embs",
      f"{b}/temporal_posenc/embeddings",
      lambda shape: (shape[0], 1, shape[1]),
    ),
    *norm(f"{a}/feature_norm", f"{b}/LayerNorm_0"),
    *norm(f"{a}/mlp_norm", f"{b}/LayerNorm_1"),
    *dense(f"{a}/query", f"{b}/Dense_0"),
    *dense(f"{a}/attention_output", f"{b}/Dense_1"),
    *dense(f"{a}/output", f"{b}/Dense_2"),
    *mlp(f"{a}/mlp", f"{b}/MLP_0"),
    Rule(f"{a}/(key|value)/w", rf"{b}/\1_embedding/kernel", split),
    Rule(f"{a}/(key|value)/b", rf"{b}/\1_embedding/bias", split),
  ]


def point_readout(ours: str, theirs: str, config: moog_readouts.PointConfig) -> list[Rule]:
  """Rules of a `PointReadout`."""
  return [
    *mlp(f"{ours}/first", f"{theirs}/initializer/layers_1"),
    *mlp(f"{ours}/values", f"{theirs}/output_values"),
    *mlp(f"{ours}/logits", f"{theirs}/output_logits"),
    *mlp(f"{ours}/predict", f"{theirs}/predictor"),
    Rule(f"{ours}/state_norm/scale", f"{theirs}/state_layer_norm/scale"),
    *_stack(f"{ours}/stack", f"{theirs}/backbone/transformer", config.stack),
  ]
