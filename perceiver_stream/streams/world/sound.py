"""Sound of a scene: objects hum as they move, and thud when they land."""

import numpy as np
from jaxtyping import Float

from perceiver_stream.streams.world.scene import Scene

HUM, THUD = 0.4, 0.7  # loudest of all hums together; of one thud
DECAY_S, LASTS_S = 0.02, 0.12  # seconds: a thud is down to 1/e, and over
_STEP = 0.01  # seconds over which speed is measured


def sound(
  scene: Scene, start: float, end: float, samples: int, speed: float, size: int
) -> Float[np.ndarray, " {samples}"]:
  """Returns the sound of the interval (start, end], in [-1, 1].

  An object hums louder the faster it moves over the ground, at a higher pitch the higher it is,
  and thuds at the sample at which it lands: lower if larger, louder if it falls faster.

  Args:
    scene: The scene.
    start: Seconds.
    end: Seconds.
    samples: In that time; the last is at its end.
    speed: The scene's seconds per second.
    size: Of the image, pixels: the measure of speeds.
  """
  time = start + (end - start) * np.arange(1, samples + 1) / samples
  wave = _hums(scene, time, speed, size) + _thuds(scene, start, end, time, speed, size)
  return np.tanh(wave).astype(np.float32)


def _hums(scene: Scene, time: np.ndarray, speed: float, size: int) -> np.ndarray:
  # Speed and height change slowly: exact at the interval's two ends, linear in between.
  ends = time[[0, -1]]
  ramp = np.linspace(0, 1, len(time))
  loud = pace(scene, ends, speed) / size
  loud = loud / (loud + 0.3) * HUM / max(1, len(scene.radius))
  cycles = _cycles(scene, ends, speed, size)
  total = np.zeros(len(time))
  for k in range(len(scene.radius)):
    turn = cycles[0, k] + (cycles[1, k] - cycles[0, k]) * ramp
    total += (loud[0, k] + (loud[1, k] - loud[0, k]) * ramp) * np.sin(2 * np.pi * turn)
  return total


def pace(scene: Scene, time: Float[np.ndarray, " t"], speed: float) -> Float[np.ndarray, "t K"]:
  """Returns the speed of objects over the ground, pixels per second."""
  step = scene.places((time + _STEP) * speed) - scene.places(time * speed)
  return np.hypot(step[..., 0], step[..., 1]) / _STEP


def _cycles(scene: Scene, time: np.ndarray, speed: float, size: int) -> Float[np.ndarray, "t K"]:
  """Returns the hum's phase: the integral of a pitch that falls as y, downwards, grows."""
  cycles: np.ndarray = scene.pitch_hz * time[:, None]
  if speed:
    own = time * speed
    beats = own[:, None] / scene.beat + scene.offset
    part = beats % 1.0
    high = 4 * scene.hop * scene.beat * (np.floor(beats) / 6 + part**2 / 2 - part**3 / 3)
    lower = scene.swing.integral(own)[..., 1] + high * scene.up[:, 1]
    cycles = cycles - scene.pitch_hz * lower / (speed * size)
  return cycles


def _thuds(
  scene: Scene, start: float, end: float, time: np.ndarray, speed: float, size: int
) -> np.ndarray:
  total = np.zeros(len(time))
  if not speed:
    return total
  for at, k in scene.impacts((start - LASTS_S) * speed, end * speed):
    since = time - at / speed
    since = since[since >= 0]
    if len(since):
      fall = 8 * scene.hop[k - 1] / scene.beat[k - 1] * speed / size
      tone = 30.0 * size / scene.radius[k - 1]
      shape = np.exp(-since / DECAY_S) * (since < LASTS_S)
      shape *= np.cos(2 * np.pi * tone * since)
      total[-len(since) :] += THUD * fall / (fall + 0.3) * shape
  return total
