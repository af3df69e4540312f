"""The contract of encoders of clips: pure functions over parameters and running statistics.

Encoders of clips have no recurrent state and predict no frames, so they are no `Model`s. A
`ClipNetwork` is a Haiku network called with clips and a `Timeline`; `as_clip_encoder` converts it to
a `ClipEncoder`. Causal ones also run frame by frame, with a memory of fixed size; the others refuse.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn, Protocol, runtime_checkable

import haiku as hk
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree

from perceiver_stream.models.family import Record
from perceiver_stream.nn.precision import broadcast
from perceiver_stream.nn.timeline import Memory, Timeline


class ClipOutputs(NamedTuple):
  """Outputs of an encoder.

  Attributes:
    features: `[B, T', h', w', D]`; T' = 1 in `step`.
    pooled: Clip feature, `[B, D']`: mean of `features`, or the class token.
    logits: `[B, K]`; None without a classifier.
    parts: Named intermediate results of `apply`; empty in `step`.
    is_new: In `step`, whether the outputs changed in this tick, a scalar: with a stride over time
      they are held in between, and are zeros before the first. True in `apply`.
  """

  features: Float[Array, "B T h w D"]
  pooled: Float[Array, "B P"]
  logits: Float[Array, "B K"] | None
  parts: dict[str, Array]
  is_new: Bool[Array, ""]


@dataclass(frozen=True, kw_only=True)
class ClipSpec:
  """Input of an encoder: RGB clips `[B, T, H, W, channels]`, float32 in [0, 1].

  The encoder itself subtracts `mean` and divides by `std`. Other values than RGB (spectrograms,
  flow) have mean 0 and std 1 here, and the card of the family states their range.

  Attributes:
    num_frames: Frames of the published clips.
    height: Rows.
    width: Columns.
    channels: Channels, 3 for RGB.
    mean: Mean of each channel, or one for all.
    std: Standard deviation of each channel, or one for all.
    fixed: If True, only clips of exactly this size are read.
  """

  num_frames: int
  height: int
  width: int
  channels: int = 3
  mean: tuple[float, ...] = (0.0,)
  std: tuple[float, ...] = (1.0,)
  fixed: bool = False

  @classmethod
  def of(cls, config: "ClipConfig", **options: Any) -> "ClipSpec":
    """Returns the clips that a config describes; `options` are further fields."""
    c = config
    sizes = {"num_frames": c.num_frames, "height": c.height, "width": c.width}
    return cls(**sizes, mean=tuple(c.mean), std=tuple(c.std), **options)


class ClipConfig(Protocol):
  """Fields that configs of encoders of clips have; see `ClipSpec`."""

  num_frames: int
  height: int
  width: int
  mean: tuple[float, ...]
  std: tuple[float, ...]


class ClipNetwork(Protocol):
  """Interface of networks that `as_clip_encoder` converts."""

  def __call__(
    self, clips: Float[Array, "B T H W C"], timeline: Timeline, is_training: bool
  ) -> tuple[ClipOutputs, Timeline]:
    """Returns the outputs for normalised clips, and the timeline of the features."""
    ...


Tokens = Float[Array, "B N D"]
TokenBlock = Callable[[Tokens], Tokens]


@runtime_checkable
class TokenNetwork(Protocol):
  """Interface of networks whose depth is a list of functions of tokens, open to prompts."""

  def tokens_and_blocks(self, clips: Float[Array, "B T H W C"]) -> tuple[Tokens, list[TokenBlock]]:
    """Returns the tokens of normalised clips before the first block, and the blocks.

    Raises:
      ValueError: The blocks of this config are no functions of tokens alone.
    """
    ...


class ClipEncoder(NamedTuple):
  """An encoder as pure, jitted functions. Statistics are those of batch norms; `{}` without any.

  Attributes:
    init: `(rng, clips) -> (params, statistics)`; clips `[B, T, H, W, C]`, see `spec`.
    apply: `(params, statistics, clips, is_training=False, rng=None) -> (ClipOutputs, statistics)`.
      In training, batch norms use the batch and dropout needs `rng`; else the statistics stay.
    initial_state: `(params, statistics, frames) -> state` before the first frame; frames
      `[B, H, W, C]`, of which only the shape is used. ValueError if the encoder is not causal.
    step: `(params, statistics, state, frames) -> (ClipOutputs, state)`; one frame of each row. All
      rows have the same clock. Features of all steps are those of `apply` on the whole clip.
    tokens_and_blocks: `(clips) -> (tokens, blocks)`, inside a Haiku transform, with the names of
      `params`: tokens `[B, N, D]` with their positions, a class token first, and the layers, functions
      of tokens `[B, M, D]` of any M, the final norm last. `nn.prompts.run_with_prompts` takes both.
      ValueError if the layers are no such functions.
    causal: Whether `step` works: features depend on no later frame.
    spec: Size and range of the clips.
    config: Config from which it was built.
    name: Name of the family.
  """

  init: Callable[..., tuple[PyTree, PyTree]]
  apply: Callable[..., tuple[ClipOutputs, PyTree]]
  initial_state: Callable[..., dict[str, Array]]
  step: Callable[..., tuple[ClipOutputs, dict[str, Array]]]
  tokens_and_blocks: Callable[[Array], tuple[Tokens, list[TokenBlock]]]
  causal: bool
  spec: ClipSpec
  config: Any
  name: str


@dataclass(frozen=True, kw_only=True)
class ClipFamily(Record[ClipEncoder]):
  """Record of a family of encoders; one line in `zoo.clip_encoders.PACKAGES` registers it.

  Its `rules` name parameters and statistics.
  """


def as_clip_encoder(
  make_network: Callable[[], ClipNetwork],
  config: Any,
  spec: ClipSpec,
  *,
  name: str,
  causal: bool = False,
  reason: str = "",
) -> ClipEncoder:
  """Returns the `ClipEncoder` of a network.

  Args:
    make_network: Called inside a Haiku transform; must return the same modules every time.
    config: Stored for reference.
    spec: Size and range of the clips.
    name: Name of the family, for errors.
    causal: Whether features depend on no later frame.
    reason: If not causal: why, a sentence, with a remedy; part of the errors of `step`.
  """

  def normalised(x: Array) -> Array:
    mean, std = (jnp.broadcast_to(jnp.asarray(v), spec.channels) for v in (spec.mean, spec.std))
    return (x - broadcast(mean, x)) / broadcast(std, x)

  def forward(clips: Array, is_training: bool) -> ClipOutputs:
    return make_network()(normalised(clips), Timeline(causal), is_training)[0]

  def forward_step(frames: Array, state: Mapping[str, Array]) -> tuple[ClipOutputs, dict]:
    memory = Memory(state)
    outputs, after = make_network()(normalised(frames)[:, None], Timeline(True, memory), False)
    held = {k: after.hold(f"outputs/{k}", v) for k, v in outputs._asdict().items() if _is_array(v)}
    outputs = outputs._replace(**held, parts={}, is_new=jnp.asarray(after.is_new))
    return outputs, memory.after

  whole, single = hk.transform_with_state(forward), hk.transform_with_state(forward_step)
  init = jax.jit(lambda rng, clips: whole.init(rng, clips, False))
  apply = jax.jit(whole.apply, static_argnums=4)
  one = jax.jit(lambda p, s, state, frames: single.apply(p, s, None, frames, state)[0])
  checked = Check(name, spec, reason or "It reads whole clips.")

  def tokens_and_blocks(clips: Array) -> tuple[Tokens, list[TokenBlock]]:
    network = make_network()
    if not isinstance(network, TokenNetwork):
      raise ValueError(
        f"{name}: its depth is no list of blocks of tokens, which prompts need; use vivit with "
        f"kind='spacetime', or vjepa with positions='table'."
      )
    return network.tokens_and_blocks(normalised(checked.clips(clips)))

  def initial_state(params: PyTree, statistics: PyTree, frames: Array) -> dict[str, Array]:
    checked.frames(frames)
    _, state = jax.eval_shape(one, params, statistics, {}, frames)
    return {k: jnp.zeros(v.shape, v.dtype) for k, v in state.items()}

  return ClipEncoder(
    init=lambda rng, clips: init(rng, checked.clips(clips)),
    apply=lambda params, statistics, clips, is_training=False, rng=None: apply(
      params, statistics, rng, checked.clips(clips), is_training
    ),
    initial_state=initial_state if causal else checked.refuse,
    step=(lambda p, s, state, frames: one(p, s, state, checked.frames(frames)))
    if causal
    else checked.refuse,
    tokens_and_blocks=tokens_and_blocks,
    causal=causal,
    spec=spec,
    config=config,
    name=name,
  )


class Check:
  """Checks of the inputs of an encoder."""

  def __init__(self, name: str, spec: ClipSpec, reason: str):
    self.name, self.spec, self.reason = name, spec, reason

  def clips(self, clips: Array) -> Array:
    """Returns the clips. Raises ValueError if they are not `[B, T, H, W, channels]`."""
    spec = self.spec
    fixed = (spec.num_frames, spec.height, spec.width)
    wrong_size = spec.fixed and clips.shape[1:4] != fixed
    if clips.ndim != 5 or clips.shape[-1] != spec.channels or wrong_size:
      size = [*fixed, spec.channels] if spec.fixed else ["T", "H", "W", spec.channels]
      raise ValueError(
        f"{self.name}: clips have shape {list(clips.shape)}, expected {['B', *size]}; resize them, "
        f"or build the encoder for this size."
      )
    return clips

  def frames(self, frames: Array) -> Array:
    """Returns the frames. Raises ValueError if they are not `[B, H, W, channels]`."""
    if frames.ndim != 4 or frames.shape[-1] != self.spec.channels:
      raise ValueError(
        f"{self.name}: frames have shape {list(frames.shape)}, expected "
        f"['B', 'H', 'W', {self.spec.channels}]: one frame of each row."
      )
    return frames

  def refuse(self, *_: Any) -> NoReturn:
    """Raises ValueError: the encoder is not causal."""
    raise ValueError(
      f"{self.name} is not causal and cannot run frame by frame. {self.reason} Use `apply` on whole "
      f"clips, or a causal variant (`perceiver-stream models` lists them)."
    )


def outputs_of(
  features: Float[Array, "B T h w D"],
  pooled: Float[Array, "B P"],
  logits: Float[Array, "B K"] | None,
  parts: dict[str, Array] | None = None,
) -> ClipOutputs:
  """Returns the outputs of a network; `as_clip_encoder` sets the rest."""
  return ClipOutputs(features, pooled, logits, parts or {}, jnp.asarray(True))


def _is_array(value: Any) -> bool:
  return isinstance(value, jax.Array) and value.ndim > 0
