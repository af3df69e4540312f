"""Published weights of MooG: names in the flat files for each of our names."""

import re
from collections.abc import Callable

from perceiver_stream.models.mapping import Detected, Flat, Rule, Shape, count_of, shape_of
from perceiver_stream.models.moog import config as moog
from perceiver_stream.models.moog import readouts as moog_readouts


def split_heads(num_heads: int) -> Callable[[Shape], Shape]:
  """Returns a function that maps our shape to the file's, with the last axis split into heads."""

  def shape(ours: Shape) -> Shape:
    return (*ours[:-1], num_heads, ours[-1] // num_heads)

  return shape


def merge_heads(num_heads: int) -> Callable[[Shape], Shape]:
  """Returns a function that maps our shape to the file's, with the first axis split into heads."""

  def shape(ours: Shape) -> Shape:
    return (num_heads, ours[0] // num_heads, ours[1])

  return shape


def dense(ours: str, theirs: str) -> list[Rule]:
  """Returns the rules of one dense layer."""
  return [Rule(f"{ours}/w", f"{theirs}/kernel"), Rule(f"{ours}/b", f"{theirs}/bias")]


def norm(ours: str, theirs: str) -> list[Rule]:
  """Returns the rules of a norm with offset."""
  return [Rule(f"{ours}/scale", f"{theirs}/scale"), Rule(f"{ours}/offset", f"{theirs}/bias")]


def mlp(ours: str, theirs: str, names: tuple[str, str] = ("Dense_0", "Dense_1")) -> list[Rule]:
  """Returns the rules of an MLP."""
  hidden, output = names
  return [
    *dense(f"{ours}/hidden", f"{theirs}/{hidden}"),
    *dense(f"{ours}/output", f"{theirs}/{output}"),
  ]


def _stack(ours: str, theirs: str, config: moog.StackConfig) -> list[Rule]:
  """Returns the rules of a `Stack`."""
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
  """Returns the rules of a `DenseDecoder`."""
  return [
    *dense(f"{ours}/output", f"{theirs}/recon"),
    *dense(f"{ours}/position_projection", f"{theirs}/pos_embedding/dense_pe"),
    *_stack(f"{ours}/stack", f"{theirs}/transformer", config.stack),
  ]


def backbone(theirs: str, config: moog.Config) -> list[Rule]:
  """Returns the rules of `Moog`, below the file's prefix `theirs` (with its slash)."""
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
  """Returns the rules of a `ClipReadout`."""
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
  """Returns the rules of a `PointReadout`."""
  return [
    *mlp(f"{ours}/first", f"{theirs}/initializer/layers_1"),
    *mlp(f"{ours}/values", f"{theirs}/output_values"),
    *mlp(f"{ours}/logits", f"{theirs}/output_logits"),
    *mlp(f"{ours}/predict", f"{theirs}/predictor"),
    Rule(f"{ours}/state_norm/scale", f"{theirs}/state_layer_norm/scale"),
    *_stack(f"{ours}/stack", f"{theirs}/backbone/transformer", config.stack),
  ]


# --- detection of the config of a file ---

_CONV = re.compile(r"(.*)encoder/backbone/Conv_\d+/kernel")


def detect(flat: Flat) -> Detected | None:
  """Returns the model of a flat file of MooG; None if the file has other names."""
  conv = next(filter(None, map(_CONV.fullmatch, sorted(flat))), None)
  if conv is None:
    return None
  prefix = conv[1]
  return Detected(moog_config(flat, prefix), lambda config: backbone(prefix, config))


def _moog_stack(flat: Flat, prefix: str, published: moog.StackConfig) -> moog.StackConfig:
  block, p = rf"{prefix}/layer_\d+", published
  heads = (0, p.num_heads, p.qkv_dim // p.num_heads)
  _, heads, width = shape_of(
    flat, f"{block}/(self|cross)_att/dense_(query|key|value)/kernel", heads
  )
  return moog.StackConfig(
    num_layers=count_of(flat, rf"{prefix}/layer_(\d+)/") or p.num_layers,
    qkv_dim=heads * width,
    num_heads=heads,
    mlp_dim=shape_of(flat, f"{block}/MLP_in/kernel", (0, p.mlp_dim))[1],
  )


def moog_config(flat: Flat, prefix: str) -> moog.Config:
  """Returns the config of a MooG file.

  Strides, number of latents, frame size and the state's scale are not in the file; they are those
  of the published models.
  """
  norm_first = any(name.startswith(f"{prefix}predictor_sa/") for name in flat)
  names = ("predictor_sa", "predictor_ca") if norm_first else ("predictor", "corrector")
  published = moog.Config()
  norms = rf"{prefix}({names[0]}|{names[1]})/(norm_encoder|layer_\d+/norm_\w+)/scale"
  latent_dim = shape_of(flat, norms, (published.latent_dim,))[0]
  predictor, corrector = (
    _moog_stack(flat, f"{prefix}{name}", sizes)
    for name, sizes in zip(names, (published.predictor, published.corrector), strict=True)
  )
  return moog.Config(
    channels=shape_of(flat, f"{prefix}encoder/backbone/Conv_0/kernel", (3, 3, 3, 0))[2],
    norm_first=norm_first,
    latent_dim=latent_dim,
    encoder=_moog_encoder(flat, f"{prefix}encoder", norm_first, published.encoder),
    predictor=predictor,
    corrector=corrector,
    decoder=_moog_decoder(flat, f"{prefix}decoder", latent_dim),
    use_loss_gradient=any(n.startswith(f"{prefix}state_grad_projector/") for n in flat),
  )


def _moog_encoder(
  flat: Flat, e: str, norm_first: bool, published: moog.EncoderConfig
) -> moog.EncoderConfig:
  biases = [
    shape_of(flat, rf"{e}/backbone/Conv_{i}/bias", (channels,))
    for i, channels in enumerate(published.channels)
  ]
  kernels = [
    shape_of(flat, rf"{e}/backbone/Conv_{i}/kernel", (3, 3, 0, *biases[min(i, len(biases) - 1)]))
    for i in range(count_of(flat, rf"{e}/backbone/Conv_(\d+)/"))
  ]
  tokens, hidden = shape_of(flat, f"{e}/transformer/Dense_0/kernel", (0, published.hidden_dim))
  features = kernels[-1][-1]
  add = any(name.startswith(f"{e}/pos_embedding/") for name in flat)
  concatenated = (max(tokens - features, 0) or 4 * published.num_octaves,)
  positions = (
    shape_of(flat, f"{e}/pos_embedding/dense_pe/kernel", (80, features)) if add else concatenated
  )
  strides = (2, 1, 1, 2, 1, 1) if norm_first else (1, 1, 1, 2, 1, 2)
  return moog.EncoderConfig(
    channels=tuple(k[-1] for k in kernels),
    kernels=tuple(k[:2] for k in kernels),
    strides=(strides + (1,) * len(kernels))[: len(kernels)],
    hidden_dim=hidden,
    num_octaves=positions[0] // 4,
    add_positions=add,
  )


def _moog_decoder(flat: Flat, prefix: str, latent_dim: int) -> moog.DecoderConfig | None:
  if not any(name.startswith(f"{prefix}/") for name in flat):
    return None
  published = moog.DecoderConfig()
  add = any(name.startswith(f"{prefix}/pos_embedding/") for name in flat)
  width = shape_of(flat, f"{prefix}/recon/kernel", (latent_dim + 64, 3))[0]
  projection = shape_of(flat, f"{prefix}/pos_embedding/dense_pe/kernel", (64, width))
  return moog.DecoderConfig(
    stack=_moog_stack(flat, f"{prefix}/transformer", published.stack),
    num_octaves=max(projection[0] if add else width - latent_dim, 4) // 4,
    add_positions=add,
    use_self=any(re.match(rf"{prefix}/transformer/layer_\d+/self_att/", name) for name in flat),
  )
