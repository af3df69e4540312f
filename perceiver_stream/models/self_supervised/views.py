"""Views of the moments that a window shows: clips, spectrograms and captions, augmented at random."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from perceiver_stream.modalities import pixels
from perceiver_stream.nn import augment
from perceiver_stream.nn.augment.crops import resize
from perceiver_stream.nn.log_mel import log_mel
from perceiver_stream.types import Observation, Size


@dataclass(kw_only=True)
class Config:
  """Clips and spectrograms.

  Attributes:
    frame_step: Ticks from one frame of a clip to the next.
    side: Rows and columns of a clip.
    audio_rate_hz: Samples per second of the stream's sound.
    num_mels: Bands of its spectrogram.
    hop: Samples from one column of it to the next.
    augment: Whether clips are cropped, flipped, blurred and recoloured at random.
  """

  frame_step: Size = 2
  side: Size = 16
  audio_rate_hz: Size = 8000
  num_mels: Size = 16
  hop: Size = 400
  augment: bool = True


class Moments:
  """The moments of a window, one a row, as a method makes views of them.

  Every call draws anew. Rows that do not count hold copies of others (`filled`), so that statistics of
  batch norms are of observed moments.

  Attributes:
    valid: False for rows that do not count, `[B]`.
    has: By optional name, True for rows that have it at every tick, `[B]`.
    partner: For each row that counts, the next one that does: the source of negatives, `[B]`.
    ticks: Ticks of a moment.
  """

  def __init__(
    self,
    config: Config,
    window: Observation,
    valid: Bool[Array, " B"],
    rng: Array | None,
    has: dict[str, Bool[Array, " B"]],
    *,
    shuffled: bool = False,
  ):
    """Takes a window `[W, B, ...]`; without a key nothing is augmented; see `Config.shuffled`."""
    self._config, self._rng = config, rng
    self.valid, self.has, self.partner = valid, has, partners(valid)
    source = self.partner if shuffled else None
    self._window = {
      name: jnp.moveaxis(jnp.asarray(x), 0, 1)[
        source if source is not None and name != "pixels" else slice(None)
      ]
      for name, x in window.items()
    }
    self.ticks = next(iter(self._window.values())).shape[1]

  def key(self) -> Array:
    """Returns a new key.

    Raises:
      ValueError: There is none to draw from.
    """
    if self._rng is None:
      raise ValueError("self_supervised: views are random; give a key as rng.")
    self._rng, key = jax.random.split(self._rng)
    return key

  def clip(self, first: int = 0, num: int | None = None) -> Float[Array, "B T s s 3"]:
    """Returns frames of `num` ticks from tick `first` on, RGB in [0, 1]; None: all."""
    c, last = self._config, None if num is None else first + num
    frames = pixels.unit_range(self._read("pixels"))[:, first : last : c.frame_step]
    if self._rng is None or not c.augment:
      return jax.vmap(lambda clip: resize(clip, c.side, c.side))(frames)

    def one(key: Array, clip: Array) -> Array:
      keys = jax.random.split(key, 4)
      clip = augment.random_crop(keys[0], clip, c.side)
      clip = augment.random_flip(keys[1], augment.random_blur(keys[2], clip))
      return augment.random_colour(keys[3], clip)

    return jax.vmap(one)(jax.random.split(self.key(), frames.shape[0]), frames)

  def sound(
    self, first: int = 0, num: int | None = None, *, backwards: bool = False
  ) -> Float[Array, "B F M"]:
    """Returns the log-mel spectrogram of `num` ticks; see `clip`."""
    c, last = self._config, None if num is None else first + num
    samples = self._read("audio")[:, first:last]
    samples = samples.reshape(samples.shape[0], -1)
    samples = samples[:, ::-1] if backwards else samples
    return log_mel(samples, rate_hz=c.audio_rate_hz, num_mels=c.num_mels, hop=c.hop)

  def captions(self, num: int) -> Int[Array, "B C W"]:
    """Returns the captions of `num` ticks, evenly spaced: candidates, of which some may be wrong."""
    return self._read("caption")[:, jnp.linspace(0, self.ticks - 1, num).astype(int)]

  def labels(self) -> Int[Array, " B"]:
    """Returns the labels of the first tick."""
    return self._read("label")[:, 0]

  def holds(self, name: str) -> bool:
    """Returns True if the window has a modality."""
    return name in self._window

  def _read(self, name: str) -> Array:
    if name not in self._window:
      raise ValueError(
        f"self_supervised: the method reads {name!r}, but the window has {sorted(self._window)}; add it "
        f"to the stream's modalities, or choose another method."
      )
    return self._window[name]


def partners(valid: Bool[Array, " B"]) -> Int[Array, " B"]:
  """Returns for each valid row the next valid one, in a circle; for others any valid row."""
  counting = jnp.argsort(~valid, stable=True)
  rank = jnp.cumsum(valid.astype(jnp.int32))
  return counting[rank % jnp.maximum(jnp.sum(valid.astype(jnp.int32)), 1)]


def filled(
  window: Observation, names: tuple[str, ...], valid: Bool[Array, " B"]
) -> dict[str, Array]:
  """Returns the named arrays `[W, B, ...]` with rows that count in place of others; zeros if none does."""
  source = jnp.where(valid, jnp.arange(valid.size), partners(valid))
  taken = {name: jnp.asarray(window[name])[:, source] for name in names if name in window}
  return {name: jnp.where(jnp.any(valid), x, jnp.zeros_like(x)) for name, x in taken.items()}
