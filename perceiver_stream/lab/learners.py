"""All models under one small interface: frames and state in, pictures and state out."""

from collections.abc import Callable
from typing import Any, NamedTuple

import haiku as hk
import jax
from einops import rearrange
from jaxtyping import Array, PyTree

from perceiver_stream.core.lru import GatedLruConfig
from perceiver_stream.models import trecvit, unet, vit
from perceiver_stream.models.painter import Painter


class Learner(NamedTuple):
  """Pure functions of one parameter tree.

  Attributes:
    init: `(rng, frames, is_first) -> params`; frames `[T, B, H, W, C]`, is_first `[T, B]`.
    initial_state: `(params, batch_size) -> state`; `()` for learners without memory.
    paint: `(params, state, frames, is_first) -> (pictures [T, B, H, W, 3], state)`.
    convolves: Whether it has convolutions, whose gradients are many times slower within a loop of
      XLA on a CPU: its steps are made one by one.
  """

  init: Callable[..., PyTree]
  initial_state: Callable[..., PyTree]
  paint: Callable[..., tuple[Any, PyTree]]
  convolves: bool = False


def of_painter(make: Callable[[], Painter], convolves: bool = False) -> Learner:
  """Returns the learner of a painter that paints one picture per frame."""

  def functions() -> tuple[Callable, tuple[Callable, ...]]:
    painter = make()

    def paint(state: PyTree, frames: Array, is_first: Array) -> tuple[Array, PyTree]:
      tokens, states = painter.watch(frames, is_first, state)
      pictures = painter.paint(tokens.reshape(-1, *tokens.shape[2:]))[:, 0]
      return pictures.reshape(*frames.shape[:4], 3), jax.tree.map(lambda x: x[-1], states)

    def init(frames: Array, is_first: Array) -> None:
      paint(painter.initial_state(frames.shape[1]), frames, is_first)

    return init, (painter.initial_state, paint)

  init, (initial_state, paint) = hk.multi_transform(functions)
  return Learner(
    init=init,
    initial_state=lambda params, batch_size: initial_state(params, None, batch_size),
    paint=lambda params, *args: paint(params, None, *args),
    convolves=convolves,
  )


def of_clip(net: Callable[[Array, int], Array], convolves: bool = False) -> Learner:
  """Returns the learner of a net that sees a whole clip at once, and paints all of its pictures.

  It sees later frames of the clip too, as the UNet and the ViT of the paper do.

  Args:
    net: `(pictures [B, H, W, T C], channels) -> [B, H, W, channels]`, inside a Haiku transform. Its
      answer is taken for tenths around grey.
    convolves: See `Learner`.
  """

  def paint(frames: Array) -> Array:
    stacked = rearrange(frames, "t b h w c -> b h w (t c)") - 0.5
    painted = net(stacked, 3 * len(frames))
    return 0.5 + 0.1 * rearrange(painted, "b h w (t c) -> t b h w c", c=3)

  init, apply = hk.without_apply_rng(hk.transform(paint))
  return Learner(
    init=lambda rng, frames, is_first: init(rng, frames),
    initial_state=lambda params, batch_size: (),
    paint=lambda params, state, frames, is_first: (apply(params, frames), state),
    convolves=convolves,
  )


def frame_by_frame(side: int, dim: int) -> Learner:
  """Returns a vision transformer of single frames: it has no memory."""
  sizes = trecvit.Config(height=side, width=side, dim=dim, lru=None, displacements=(1,))
  return of_painter(lambda: trecvit.TRecViT(sizes))


def gated_lru(side: int, dim: int) -> Learner:
  """Returns a TRecViT."""
  lru = GatedLruConfig(dim=dim)
  sizes = trecvit.Config(height=side, width=side, dim=dim, lru=lru, displacements=(1,))
  return of_painter(lambda: trecvit.TRecViT(sizes))


def clip_vit(side: int, dim: int) -> Learner:
  """Returns a vision transformer of clips."""
  del side

  def net(clip: Array, channels: int) -> Array:
    sizes = vit.Config(
      patch=8, dim=dim, num_layers=2, num_heads=4, mlp_dim=4 * dim, output_dim=channels
    )
    return vit.vit(sizes, clip)

  return of_clip(net)


def clip_unet(side: int, dim: int) -> Learner:
  """Returns a UNet of clips."""
  del side

  def net(clip: Array, channels: int) -> Array:
    return unet.unet(unet.Config(channels=(dim, 2 * dim, 4 * dim), output_dim=channels), clip)

  return of_clip(net, convolves=True)


# By name: makes a learner for frames of a side, its width chosen for about the same parameters.
LEARNERS: dict[str, Callable[[int, int], Learner]] = {
  "vit": clip_vit,
  "unet": clip_unet,
  "frame_by_frame": frame_by_frame,
  "trecvit": gated_lru,
}
