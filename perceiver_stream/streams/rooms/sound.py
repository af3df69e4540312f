"""Sound of a room: its objects hum, those nearer to the camera louder."""

import numpy as np
from jaxtyping import Float

from perceiver_stream.streams.rooms.layout import CLASSES, Scene, Solid

PITCH_HZ = {"table": 110.0, "box": 165.0, "cylinder": 262.0, "ball": 392.0}
LEAST_RATE_HZ = 800  # twice the highest pitch, and a little
LOUDNESS = 0.1  # of an object at a metre
NEAREST_M = 0.3  # nearer objects are not louder
_DETUNED = 0.03  # share by which objects of a class differ in pitch
_GOLDEN = (5**0.5 - 1) / 2  # its multiples spread evenly


def sound(
  scene: Scene, start_s: float, end_s: float, samples: int
) -> Float[np.ndarray, " {samples}"]:
  """Returns the sound at the camera in the interval (start, end], in [-1, 1].

  Every object hums at the pitch of its class, slightly detuned, with an amplitude of 1 / distance to
  the camera. Loudness is exact at both ends and linear in between. Walls neither reflect nor muffle.

  Args:
    scene: The room.
    start_s: Start.
    end_s: End.
    samples: In that time; the last is at its end.
  """
  ramp = np.arange(1, samples + 1) / samples
  time = start_s + (end_s - start_s) * ramp
  wave = np.zeros(samples)
  for index, solid in sources(scene):
    first, last = (loudness(scene, solid, at) for at in (start_s, end_s))
    phase = 2 * np.pi * (pitch_hz(index, solid) * time + index * _GOLDEN)
    wave += (first + (last - first) * ramp) * np.sin(phase)
  return np.tanh(wave).astype(np.float32)


def sources(scene: Scene) -> list[tuple[int, Solid]]:
  """Returns the objects with their indices; of a table, its top."""
  found: list[tuple[int, Solid]] = []
  for index, solid in enumerate(scene.solids):
    leg = CLASSES[solid.label] == "table" and solid.shape == "cylinder"
    found += [] if leg else [(index, solid)]
  return found


def pitch_hz(index: int, solid: Solid) -> float:
  """Returns the pitch of an object."""
  return PITCH_HZ[CLASSES[solid.label]] * (1 + _DETUNED * (index * _GOLDEN % 1 - 0.5))


def loudness(scene: Scene, solid: Solid, time_s: float) -> float:
  """Returns the amplitude of an object at the camera."""
  away = np.linalg.norm(solid.place(time_s) - scene.pose(time_s)[:, 3])
  return LOUDNESS / max(float(away), NEAREST_M)
