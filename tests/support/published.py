"""Configs of published models from the JSON of golden files, and their parameters."""

import pathlib

import haiku as hk
import jax
import jax.numpy as jnp
from golden import files

from perceiver_stream.models import mapping as translation
from perceiver_stream.models import moog, rvm
from perceiver_stream.models.moog import readouts as moog_readouts
from perceiver_stream.models.perceiver_io import autoencoder as perceiver_autoencoder
from perceiver_stream.models.perceiver_io import classifier as perceiver_classifier
from perceiver_stream.models.perceiver_io import flow as perceiver_flow
from perceiver_stream.models.perceiver_io.halves import DecoderConfig, EncoderConfig, FourierConfig


def golden_files(kind):
  """Returns a pytest parameter, a path, for each file of a kind."""
  return files(kind, pathlib.Path)


def load_params(make, args, rules, published, ignore=""):
  """Returns our parameters for `make()(*args)` from a published file's arrays."""
  init = hk.transform(lambda *a: make()(*a)).init
  template = jax.eval_shape(init, jax.random.key(0), *args)
  params = translation.import_params(published, template, rules, source="golden", ignore=ignore)
  return jax.tree.map(jnp.asarray, params)


def jitted(make, method, static=()):
  """Returns the function (params, *args) that one method of a network is."""
  f = hk.transform(lambda *a: getattr(make(), method)(*a))
  apply = lambda params, *args: f.apply(params, None, *args)  # noqa: E731
  return jax.jit(apply, static_argnums=static)


def call(make, method, params, *args):
  """Returns what one method of a network gives; strings are constants."""
  static = [i + 1 for i, a in enumerate(args) if isinstance(a, str)]
  return jitted(make, method, static)(params, *args)


# --- Perceiver IO ---------------------------------------------------------------------------------


def encoder_config(h):
  return EncoderConfig(
    num_latents=h["z_index_dim"],
    latent_dim=h["num_z_channels"],
    num_blocks=h["num_blocks"],
    num_layers=h["num_self_attends_per_block"],
    num_cross_heads=h["num_cross_attend_heads"],
    num_self_heads=h["num_self_attend_heads"],
    cross_mlp_factor=h["cross_attend_widening_factor"],
    self_mlp_factor=h["self_attend_widening_factor"],
    qk_dim=h["qk_channels"],
    v_dim=h["v_channels"],
    qk_from_tokens=h["cross_attention_shape_for_attn"] == "kv",
    use_query_residual=h["encoder_use_query_residual"],
    init_scale=h["z_pos_enc_init_scale"],
  )


def decoder_config(h):
  return DecoderConfig(
    num_heads=h["decoder_num_heads"],
    qk_dim=h["decoder_qk_channels"],
    v_dim=h["decoder_v_channels"],
    use_query_residual=h["decoder_use_query_residual"],
    chunk=100,
  )


def fourier_config(h, prefix=""):
  resolution = h[f"{prefix}max_resolution"]
  return FourierConfig(
    num_bands=h[f"{prefix}num_bands"],
    max_resolution=None if resolution is None else tuple(resolution),
    sine_only=h["sine_only"],
    concat_pos=h["concat_pos"],
  )


def flow_config(h):
  return perceiver_flow.Config(
    height=h["train_size"][0],
    width=h["train_size"][1],
    channels=h["image_channels"],
    patch_dim=h["patch_hidden_channels"],
    positions=fourier_config(h),
    encoder=encoder_config(h),
    decoder=decoder_config(h),
    rescale=h["rescale_factor"],
    flow_scale=h["flow_scale_factor"],
    output_dim=h["output_num_channels"],
  )


def autoencoder_config(h):
  return perceiver_autoencoder.Config(
    num_frames=h["num_frames"],
    height=h["image_size"][0],
    width=h["image_size"][1],
    channels=h["image_channels"],
    num_outputs=h["image_num_outputs"],
    samples=h["num_frames"] * h["audio_samples_per_frame"],
    samples_per_patch=h["samples_per_patch"],
    num_classes=h["num_classes"],
    space_patch=h["image_spatial_downsample"],
    time_patch=h["image_temporal_downsample"],
    audio_positions=fourier_config(h, "audio_"),
    image_positions=fourier_config(h, "image_"),
    token_padding=h["preproc_min_padding_size"],
    query_padding=h["decoder_min_padding_size"],
    mask_probs=h["mask_probs"],
    padding_init_scale=h["padding_init_scale"],
    label_query_dim=h["label_query_channels"],
    label_query_init_scale=h["label_query_init_scale"],
    decoded_dim=h["output_num_channels"],
    encoder=encoder_config(h),
    decoder=decoder_config(h),
    decode_chunk=100,
  )


def classifier_config(h, published):
  """Returns the config; what the JSON may call differently is read off the weights' shapes."""
  prep, downsample = h.get("prep_type", "pixels"), h.get("spatial_downsample", 1)
  if prep == "pixels":
    tokens = perceiver_classifier.FourierPixels(positions=fourier_config(h), downsample=downsample)
  elif prep == "conv":
    channels = next(v.shape[-1] for k, v in published.items() if k.endswith("/conv/w"))
    tokens = perceiver_classifier.ConvPixels(channels=channels, positions=fourier_config(h))
  else:
    shape = lambda end: next(v.shape for k, v in published.items() if k.endswith(end))  # noqa: E731
    tokens = perceiver_classifier.LearnedPixels(
      channels=shape("/conv2_d/w")[-1],
      position_dim=shape("_inputs/trainable_position_encoding/pos_embs")[-1],
      projected_dim=shape("/position_encoding_projector/linear/w")[-1],
      downsample=downsample,
    )
  return perceiver_classifier.Config(
    height=h["image_size"][0],
    width=h["image_size"][1],
    channels=h["image_channels"],
    num_classes=h["num_classes"],
    tokens=tokens,
    encoder=encoder_config(h),
    decoder=decoder_config(h),
    query_dim=h["decoder_query_channels"],
    query_init_scale=h["decoder_query_init_scale"],
  )


# --- MooG -----------------------------------------------------------------------------------------


def stack_config(h):
  return moog.StackConfig(
    num_layers=h["num_layers"],
    qkv_dim=h["qkv_size"],
    num_heads=h["num_heads"],
    mlp_dim=h["mlp_size"],
  )


def dense_config(h, *, use_self=False, chunk=100):
  return moog.DecoderConfig(
    stack=stack_config(h),
    num_octaves=h["num_fourier_bases"],
    add_positions=h.get("update_type", "concat") == "project_add",
    use_self=use_self,
    chunk=chunk,
  )


def moog_config(h, *, norm_first, use_self=False, use_loss_gradient=False):
  predictor, corrector = (
    ("predictor_sa", "predictor_ca") if norm_first else ("predictor", "corrector")
  )
  return moog.Config(
    height=h["height"],
    width=h["width"],
    channels=h.get("channels", 3),
    num_latents=h["state"]["num_tokens"],
    latent_dim=h["state"]["token_size"],
    init_scale=h["state"]["init_scale"],
    state_eps=h.get("state_layer_norm", {}).get("epsilon", 1e-4),
    norm_first=norm_first,
    encoder=moog.EncoderConfig(
      channels=tuple(h["conv"]["features"]),
      strides=tuple(map(tuple, h["conv"]["strides"])),
      kernels=tuple(map(tuple, h["conv"]["kernel_sizes"])),
      normalise=h["conv"].get("normalize_output", True),
      hidden_dim=h["encoder"]["hidden_size"],
      num_octaves=h["encoder"]["num_fourier_bases"],
      add_positions=h["encoder"]["update_type"] == "project_add",
    ),
    predictor=stack_config(h[predictor]),
    corrector=stack_config(h[corrector]),
    decoder=dense_config(h["decoder"], use_self=use_self),
    use_loss_gradient=use_loss_gradient,
    sample=h["decoder"].get("subsample_factor", 1),
  )


def clip_config(h, frames):
  return moog_readouts.ClipConfig(
    num_frames=frames,
    frames_per_query=h["num_frames_per_query"],
    channels=h["num_classes"] // h["num_frames_per_query"],
    dim=h["num_params"],
    num_heads=h["num_heads"],
    query_dim=h["query_mlp"],
    num_octaves=h["query_fourier_bases"],
  )


def point_config(h, published):
  return moog_readouts.PointConfig(
    stack=stack_config(h),
    dim=h["output_size"],
    hidden_dim=h["hidden_size"],
    num_octaves=h["num_fourier_bases"],
    first_dim=published["initializer/layers_1/Dense_0/bias"].shape[0],
    predict_dim=h["predictor_hidden"],
    state_eps=h["state_layer_norm_epsilon"],
  )


# --- RVM ------------------------------------------------------------------------------------------


def rvm_config(h):
  return rvm.Config(
    height=h["height"],
    width=h["width"],
    channels=h.get("channels", 3),
    patch=h["patch_size"],
    base_grid=tuple(h["base_token_shape"]),
    dim=h["token_dim"],
    encoder=rvm.LayersConfig(
      num_layers=h["encoder"]["num_layers"],
      num_heads=h["encoder"]["num_heads"],
      mlp_dim=h["encoder"]["mlp_size"],
    ),
    core=rvm.LayersConfig(
      num_layers=h["core"]["num_layers"],
      num_heads=h["core"]["num_heads"],
      mlp_dim=h["core"]["mlp_dim"],
      qkv_dim=h["core"]["num_feats"],
    ),
    decoder=rvm.LayersConfig(
      num_layers=h["decoder"]["num_layers"],
      num_heads=h["decoder"]["num_heads"],
      mlp_dim=h["decoder"]["mlp_dim"],
      qkv_dim=h["decoder"]["num_feats"],
      dim=h["decoder"]["emb_dim"],
    ),
    mask_ratio=h["masking_ratio"],
  )
