"""All models under one small interface: frames and state in, images and state out."""

from collections.abc import Callable
from typing import Any, NamedTuple

import haiku as hk
import jax
from einops import rearrange
from jaxtyping import Array, Float, PyTree

from perceiver_stream.core import PredictCorrectConfig
from perceiver_stream.core.lru import GatedLruConfig
from perceiver_stream.execution.nets import unet, vit
from perceiver_stream.modalities import pixels
from perceiver_stream.models import moog, rvm, stream_perceiver
from perceiver_stream.models.base import Model
from perceiver_stream.models.frame_predictors import conv3d, image_rnn, trecvit, video_autoencoder
from perceiver_stream.models.frame_predictors.base import FlowPredictor, FramePredictor
from perceiver_stream.models.moog import model as moog_model
from perceiver_stream.models.rvm import model as rvm_model
from perceiver_stream.nn import patchify, unpatchify

PATCH, HEADS, LAYERS = 8, 4, 2  # of all that have such
UNET_CELL = 4  # its pixels are cells of 4 × 4: the rest is too slow for a CPU


class Prediction(NamedTuple):
  """The output of a learner for a clip.

  Attributes:
    pictures: One for every frame.
    flow: Displacement of each of their pixels to its source in the frame, (x, y) pixels; None of
      learners that do not say.
  """

  pictures: Float[Array, "T B H W 3"]
  flow: Float[Array, "T B H W 2"] | None = None


class Learner(NamedTuple):
  """Pure functions of one parameter tree.

  Attributes:
    init: `(rng, frames, is_first) -> params`; frames `[T, B, H, W, C]`, is_first `[T, B]`.
    initial_state: `(params, batch_size) -> state`; `()` for learners without memory.
    predict_frames: `(params, state, frames, is_first) -> (Prediction, state)`.
    convolves: True if it has convolutions, whose gradients are many times slower within a loop of
      XLA on a CPU: its steps are made one by one.
  """

  init: Callable[..., PyTree]
  initial_state: Callable[..., PyTree]
  predict_frames: Callable[..., tuple[Prediction, PyTree]]
  convolves: bool = False


def from_frame_predictor(make: Callable[[], FramePredictor], convolves: bool = False) -> Learner:
  """Returns the learner of a frame predictor with one image per frame.

  Args:
    make: Makes it, inside a Haiku transform.
    convolves: See `Learner`.
  """

  def functions() -> tuple[Callable, tuple[Callable, ...]]:
    predictor = make()

    def predict_frames(state: PyTree, frames: Array, is_first: Array) -> tuple[Prediction, PyTree]:
      tokens, states = predictor.observe(frames, is_first, state)
      flat = tokens.reshape(-1, *tokens.shape[2:])
      by_tick = lambda x: x[:, 0].reshape(*frames.shape[:4], -1)  # noqa: E731
      flow = by_tick(predictor.flow(flat)) if isinstance(predictor, FlowPredictor) else None
      return Prediction(by_tick(predictor.predict_frames(flat)), flow), jax.tree.map(
        lambda x: x[-1], states
      )

    def init(frames: Array, is_first: Array) -> None:
      predict_frames(predictor.initial_state(frames.shape[1]), frames, is_first)

    return init, (predictor.initial_state, predict_frames)

  init, (initial_state, predict_frames) = hk.multi_transform(functions)
  return Learner(
    init=init,
    initial_state=lambda params, batch_size: initial_state(params, None, batch_size),
    predict_frames=lambda params, *args: predict_frames(params, None, *args),
    convolves=convolves,
  )


def of_model(model: Model, convolves: bool = False) -> Learner:
  """Returns the learner of any model that predicts pixels at one displacement.

  What it predicts is taken for the image, whatever that shows. It sees the three colours alone:
  hints are not for it.
  """

  def init(rng: Array, frames: Array, is_first: Array) -> PyTree:
    return model.init(rng, {"pixels": frames[0], "is_first": is_first[0]})

  def predict_frames(
    params: PyTree, state: PyTree, frames: Array, is_first: Array
  ) -> tuple[Any, PyTree]:
    outputs, state = model.unroll(params, state, {"pixels": frames, "is_first": is_first})
    predictions = {name: value[:, :, 0] for name, value in outputs.predictions.items()}
    return Prediction(predictions["pixels"], predictions.get("pixels_flow")), state

  return Learner(init, model.initial_state, predict_frames, convolves)


def of_clip(net: Callable[[Array, int], Array], convolves: bool = False) -> Learner:
  """Returns the learner of a net that reads a whole clip at once and predicts all of its images.

  It sees later frames of the clip too, as the UNet and the ViT of the paper do.

  Args:
    net: `(pictures [B, H, W, T C], channels) -> [B, H, W, channels]`, inside a Haiku transform. Its
      answer is taken for tenths around grey.
    convolves: See `Learner`.
  """

  def predict_frames(frames: Array) -> Array:
    stacked = rearrange(frames, "t b h w c -> b h w (t c)") - 0.5
    predicted = net(stacked, 3 * len(frames))
    return 0.5 + 0.1 * rearrange(predicted, "b h w (t c) -> t b h w c", c=3)

  init, apply = hk.without_apply_rng(hk.transform(predict_frames))
  return Learner(
    init=lambda rng, frames, is_first: init(rng, frames),
    initial_state=lambda params, batch_size: (),
    predict_frames=lambda params, state, frames, is_first: (
      Prediction(apply(params, frames)),
      state,
    ),
    convolves=convolves,
  )


def _vit(side: int, dim: int) -> Learner:
  del side

  def net(clip: Array, channels: int) -> Array:
    sizes = vit.Config(
      patch=PATCH,
      dim=dim,
      num_layers=LAYERS,
      num_heads=HEADS,
      mlp_dim=4 * dim,
      output_dim=channels,
    )
    return vit.vit(sizes, clip)

  return of_clip(net)


def _unet(side: int, dim: int) -> Learner:
  del side

  def net(clip: Array, channels: int) -> Array:
    cells = patchify(clip, UNET_CELL)
    num = channels * UNET_CELL**2
    predicted = unet.unet(unet.Config(channels=(dim, dim, dim), output_dim=num), cells)
    return unpatchify(predicted, UNET_CELL)

  return of_clip(net, convolves=True)


def _frame_by_frame(side: int, dim: int) -> Learner:
  return from_frame_predictor(
    lambda: trecvit.TRecViT(trecvit.Config(lru=None, **_common(side, dim)))
  )


def _trecvit(side: int, dim: int) -> Learner:
  lru = GatedLruConfig(dim=dim)
  return from_frame_predictor(
    lambda: trecvit.TRecViT(trecvit.Config(lru=lru, **_common(side, dim)))
  )


def _image_rnn(side: int, dim: int) -> Learner:
  return from_frame_predictor(lambda: image_rnn.ImageRnn(image_rnn.Config(**_common(side, dim))))


def _conv3d(side: int, dim: int) -> Learner:
  common = {n: v for n, v in _common(side, dim).items() if n != "num_heads"}
  return from_frame_predictor(lambda: conv3d.CausalConv3D(conv3d.Config(**common)))


def _video_autoencoder(side: int, dim: int, warps: bool = True) -> Learner:
  # Encoder and decoder see single pixels: with wider kernels they undo any constant flow, so that
  # it is learnt up to a shift.
  config = video_autoencoder.Config(
    height=side,
    width=side,
    patch=1,
    dim=dim // 2,
    memory_dim=dim,
    kernel=1,
    memory_kernel=5,
    flow_kernel=5,
    flow_dim=dim // 2,
    warps=warps,
  )
  return from_frame_predictor(lambda: video_autoencoder.make(config), convolves=True)


def _conv_lstm(side: int, dim: int) -> Learner:
  return _video_autoencoder(side, dim, warps=False)


def _rvm(side: int, dim: int) -> Learner:
  sizes = rvm.LayersConfig(num_layers=1, num_heads=HEADS, mlp_dim=2 * dim)
  config = rvm.Config(
    height=side,
    width=side,
    patch=PATCH,
    base_grid=(side // PATCH, side // PATCH),
    dim=dim,
    encoder=sizes,
    core=sizes,
    decoder=rvm.LayersConfig(num_layers=1, num_heads=HEADS, mlp_dim=2 * dim, dim=dim),
    displacements=(1,),
    remat=False,
  )
  return of_model(rvm_model.build(config))


def _moog(side: int, dim: int) -> Learner:
  stack = moog.StackConfig(num_layers=1, qkv_dim=dim, num_heads=HEADS, mlp_dim=2 * dim)
  pixel = moog.StackConfig(num_layers=1, qkv_dim=16, num_heads=HEADS, mlp_dim=16)
  config = moog.Config(
    height=side,
    width=side,
    num_latents=16,
    latent_dim=dim,
    norm_first=False,
    encoder=moog.EncoderConfig(
      channels=(dim // 2, dim),
      strides=(4, 2),
      hidden_dim=dim,
      num_octaves=4,
      add_positions=True,
    ),
    predictor=stack,
    corrector=stack,
    decoder=moog.DecoderConfig(stack=pixel, num_octaves=4),
    float32_positions=False,
    remat=False,
  )
  return of_model(moog_model.build(config), convolves=True)


def _stream_perceiver(side: int, dim: int) -> Learner:
  config = stream_perceiver.Config(
    modalities={"pixels": pixels.Config(height=side, width=side, patch=PATCH, tokenizer="patch")},
    core=PredictCorrectConfig(num_latents=16, latent_dim=dim, num_heads=HEADS),
    token_dim=dim,
    query_dim=dim,
    num_decoder_heads=HEADS,
    displacements=(1,),
  )
  return of_model(stream_perceiver.build(config))


def _common(side: int, dim: int) -> dict[str, Any]:
  return {
    "height": side,
    "width": side,
    "patch": PATCH,
    "dim": dim,
    "num_layers": LAYERS,
    "num_heads": HEADS,
    "displacements": (1,),
  }


# By name: makes a learner of a width for frames of a side.
LEARNERS: dict[str, Callable[[int, int], Learner]] = {
  "vit": _vit,  # reads a clip at once
  "unet": _unet,
  "frame_by_frame": _frame_by_frame,
  "image_rnn": _image_rnn,
  "conv3d": _conv3d,
  "trecvit": _trecvit,
  "rvm": _rvm,
  "moog": _moog,
  "stream_perceiver": _stream_perceiver,
  "video_autoencoder": _video_autoencoder,
  "conv_lstm": _conv_lstm,  # the same without flow
}
