"""Cuts and fades: how far one prediction falls below copying the last frame, one tick ahead.

  python benchmarks/cuts.py

A bundled model processes pairs of held-out scenes of the synthetic world, 64 x 64: the first for 16
ticks, then, after a cut or a fade of 8 ticks to one of its images, the second. Scores are of the
predictions from the first frame after the cut on, or from the first still frame after the fade.
PSNR is capped at 60 dB, as everywhere; copying a still image scores 60 dB.
"""

from typing import Any

import common
import jax
import jax.numpy as jnp
import numpy as np

import perceiver_stream
from perceiver_stream import streams
from perceiver_stream.reporting.scores import psnr

SEED = 10**6  # of scenes that no config trains on
BEFORE, AFTER, FADE = 16, 16, 8  # ticks; the fade is the start of the second part


def scene(level: str, seed: int, ticks: int, side: int) -> np.ndarray:
  """Returns the first frames of a scene, uint8 `[ticks, side, side, 3]`."""
  config = streams.synthetic.Config(
    height=side,
    width=side,
    level=level,
    audio_rate_hz=0,
    max_ticks=ticks,
    modalities=("pixels",),
    seed=SEED + seed,
  )
  return np.stack([tick["pixels"] for tick in streams.open_rows(config)[0]])


def recordings(pairs: int, side: int) -> dict[str, tuple[np.ndarray, int]]:
  """Returns frames `[T, pairs, side, side, 3]` by case, and the first tick to score."""
  first, second = (
    np.stack([scene("medium", 2 * i + which, ticks, side) for i in range(pairs)], axis=1)
    for which, ticks in enumerate((BEFORE, AFTER))
  )
  still = np.repeat(second[:1], AFTER, axis=0)
  share = np.linspace(0, 1, FADE + 1)[1:, None, None, None, None]
  fade = np.round(first[-1:] + share * (second[:1].astype(float) - first[-1:])).astype(np.uint8)
  return {
    "cut to a still picture": (np.concatenate([first, still]), BEFORE),
    "cut to a moving picture": (np.concatenate([first, second]), BEFORE),
    "fade to a still picture": (np.concatenate([first, fade, still[FADE:]]), BEFORE + FADE),
  }


def rows_of(name: str, pairs: int) -> list[list[Any]]:
  """Returns a row for each case: the worst tick's dB below copying, copying's dB, and the ratio."""
  model, params = perceiver_stream.load(name)
  side = model.modalities["pixels"].config.height
  ahead = list(model.config.displacements).index(1)

  @jax.jit
  def errors(frames: jax.Array) -> tuple[jax.Array, jax.Array]:
    state = model.initial_state(params, batch_size=frames.shape[1])
    found = model.unroll(params, state, {"pixels": frames})[0].predictions["pixels"]
    shown = frames.astype(jnp.float32) / 255
    predicted = found[:-1, :, ahead]
    error = lambda x: jnp.mean(jnp.square(x - shown[1:]), axis=(2, 3, 4))  # noqa: E731
    return error(predicted), error(shown[:-1])

  rows = []
  for case, (frames, start) in recordings(pairs, side).items():
    of_model, of_copy = (psnr(np.asarray(e)[start:]) for e in errors(jnp.asarray(frames)))
    below = of_copy - of_model
    worst = np.unravel_index(np.argmax(below), below.shape)
    ratio = 10 ** (float(below[worst]) / 10)
    rows.append([case, max(0.0, float(below[worst])), float(of_copy[worst]), ratio])
  return rows


def main(argv: list[str] | None = None) -> None:
  more = {"model": "stream_perceiver/tiny_world", "pairs": 8}
  options = common.arguments_of(argv, __doc__ or "", globals(), more)
  about = common.machine()
  name, pairs = ("stream_perceiver/nano", 1) if options.tiny else (options.model, options.pairs)
  columns = ["case", "worst tick, dB below copying", "copying there, dB", "x copying's error"]
  note = f"{name}; {pairs} pairs of scenes."
  table = common.Table("Cuts and fades, one tick ahead", columns, rows_of(name, pairs), note)
  common.publish("cuts", options, [table], about)


if __name__ == "__main__":
  main()
