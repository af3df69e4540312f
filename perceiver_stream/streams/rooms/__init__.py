"""Textured rooms in three dimensions and a freely moving camera: exact depth, pose, flow.

A box-shaped room of 6 × 3 × 5 m with tables, boxes, cylinders and balls of their own textures; the
camera turns about all axes. A tick is a formula of (seed, row, recording, tick), so any of them can
be made at once. With `ticks_per_recording=1` every tick is another room from another place: labelled
depth of sampled layouts. With a `sensor`, depth is that of a noisy depth camera.

  pixels          RGB
  depth           metres along the optical axis; NaN where a sensor gives none
  dha             `[H, W, 3]` depth (m), height above the floor (m), angle of the normal with up
                  (degrees), of the sensor's depth; zeros where that is missing
  normals         `[H, W, 3]` unit normals in camera axes, towards the camera
  segmentation    index in `CLASSES`
  flow            `[H, W, 2]` pixels (x, y) to the next tick, of the visible surface
  flow_backward   the same to the tick before
  camera          camera-to-world pose, the first three rows of the matrix, row after row
  audio           hums of the objects, each class at its own pitch, by 1 / distance; up to this tick.
                  Off unless `modalities` names it and `audio_rate_hz` is set

Camera axes are x right, y down, z ahead; the world's y is down too, so gravity is (0, 1, 0) and the
floor is at y = 3. `intrinsics(config)` gives (fx, fy, cx, cy).

Source: after the renderers of SynthCam3D (Handa et al. 2015, 1505.00171) and SceneNet (1511.07041),
which draw annotated rooms with OpenGL and arrange furniture by simulated annealing. Layouts here are
sampled without overlap; surfaces are ray cast in numpy. All of it is ours.
"""

from dataclasses import dataclass

import grain
import numpy as np
from jaxtyping import Float

from perceiver_stream.streams import depth_geometry, depth_sensor
from perceiver_stream.streams.base import (
  StreamConfig,
  audio_spec,
  exact_rate,
  pixels_spec,
  samples_per_tick,
)
from perceiver_stream.streams.rooms import layout, render, sound
from perceiver_stream.streams.rooms.layout import CLASSES as CLASSES
from perceiver_stream.streams.rooms.layout import LEVELS as LEVELS
from perceiver_stream.streams.sim_recordings import SimStream, seed_of
from perceiver_stream.types import ModalitySpec

MODALITIES = (
  "pixels", "depth", "dha", "normals", "segmentation", "flow", "flow_backward", "camera", "audio",
)  # fmt: skip


@dataclass(kw_only=True)
class Config(StreamConfig):
  """A room and a camera in it.

  Attributes:
    audio_rate_hz: Sound samples per second for the modality "audio"; 0 is no sound.
    height: Rows of the image.
    width: Columns.
    field_of_view_deg: From the left edge of the image to the right one.
    level: "easy", "medium" or "hard": more objects, faster motion, changing light, moving balls.
    modalities: Modalities of a tick; those left out cost no time.
    sensor: "" for exact depth, or the noise of a depth camera, a key of `depth_sensor.SENSORS`.
    ticks_per_recording: Ticks after which another room begins, with `is_first`; 0 is never.
    seed: Of rooms, textures and paths.
  """

  audio_rate_hz: int = 0
  height: int = 64
  width: int = 64
  field_of_view_deg: float = 75.0
  level: str = "medium"
  modalities: tuple[str, ...] = ("pixels", "depth", "segmentation", "camera")
  sensor: str = ""
  ticks_per_recording: int = 0
  seed: int = 0

  def validate(self) -> None:
    """Checks the fields; raises ValueError."""
    super().validate()
    if self.level not in LEVELS:
      raise ValueError(f"rooms: level='{self.level}' is not one of {list(LEVELS)}.")
    unknown = [name for name in self.modalities if name not in MODALITIES]
    if unknown or not self.modalities:
      raise ValueError(f"rooms: modalities {unknown} are not some of {list(MODALITIES)}.")
    if ("audio" in self.modalities) != bool(self.audio_rate_hz):
      raise ValueError(
        f"rooms: audio_rate_hz={self.audio_rate_hz} with modalities {self.modalities}; name 'audio' "
        "and set a rate, or neither."
      )
    if 0 < self.audio_rate_hz < sound.LEAST_RATE_HZ:
      raise ValueError(
        f"rooms: audio_rate_hz={self.audio_rate_hz} is too low for the pitches of objects; use at least "
        f"{sound.LEAST_RATE_HZ}."
      )
    if self.sensor and self.sensor not in depth_sensor.SENSORS:
      raise ValueError(
        f"rooms: sensor='{self.sensor}' is not one of {sorted(depth_sensor.SENSORS)}, or '' for none."
      )
    limits = {"height": (8, 2048), "width": (8, 2048), "field_of_view_deg": (20, 140)}
    limits |= {"ticks_per_recording": (0, 2**31), "seed": (0, 2**63)}
    for name, (least, most) in limits.items():
      if not least <= getattr(self, name) <= most:
        raise ValueError(f"rooms: {name}={getattr(self, name)}; use {least} to {most}.")


def intrinsics(config: Config) -> Float[np.ndarray, " 4"]:
  """Returns (fx, fy, cx, cy) in pixels; centres of pixels are at j + 0.5, i + 0.5."""
  focal = config.width / 2 / np.tan(np.radians(config.field_of_view_deg) / 2)
  return np.asarray([focal, focal, config.width / 2, config.height / 2])


def specs(config: Config) -> dict[str, ModalitySpec]:
  """Returns the spec of each modality of a tick."""
  size, rate = (config.height, config.width), float(exact_rate(config.rate_hz))
  far = float(np.linalg.norm(layout.ROOM))
  longest = float(2 * max(size))
  made = {
    "pixels": pixels_spec(config, *size),
    "depth": ModalitySpec(shape=size, maximum=far, rate_hz=rate, units="m"),
    "dha": ModalitySpec(shape=(*size, 3), maximum=0.0, rate_hz=rate, units="m, m, deg"),
    "normals": ModalitySpec(shape=(*size, 3), minimum=-1.0, rate_hz=rate, units="unit vector"),
    "segmentation": ModalitySpec(
      shape=size, dtype="int32", maximum=len(CLASSES) - 1.0, rate_hz=rate, units="class id"
    ),
    "camera": ModalitySpec(shape=(12,), maximum=0.0, rate_hz=rate, units="rotation, m"),
  }
  for name in ("flow", "flow_backward"):
    made[name] = ModalitySpec(
      shape=(*size, 2), minimum=-longest, maximum=longest, rate_hz=rate, units="px"
    )
  if config.audio_rate_hz:
    made["audio"] = audio_spec(config)
  return {name: made[name] for name in config.modalities}


def open_row(config: Config, row: int = 0, num_rows: int = 1) -> grain.IterDataset:
  """Returns the stream of one row."""
  del num_rows
  return SimStream(config, row, Room)


class Room:
  """One recording: a room, its objects, and the path of a camera."""

  def __init__(self, config: Config, row: int, recording: int):
    self._config, self._tick, self._seed = config, 0, seed_of(config.seed, row, recording)
    rng = np.random.default_rng(self._seed)
    self._scene = layout.sample(rng, LEVELS[config.level])
    self._rays = render.rays(config.height, config.width, intrinsics(config))
    self._focal = float(intrinsics(config)[0])

  def _time(self, tick: int) -> float:
    return tick / float(exact_rate(self._config.rate_hz))

  def read(self) -> dict[str, np.ndarray]:
    """Returns the next tick's values."""
    names = self._config.modalities
    time = self._time(self._tick)
    pose = self._scene.pose(time)
    view = render.cast(self._scene, pose, time, self._rays)
    depth = self._sensed(view.depth)
    values: dict[str, np.ndarray] = {"segmentation": view.label}
    values["depth"] = np.where(depth > 0, depth, np.float32(np.nan))
    if "dha" in names:
      values["dha"] = self._dha(depth, pose)
    if "pixels" in names:
      values["pixels"] = render.shade(self._scene, view, time)
    if "normals" in names:
      values["normals"] = (view.normal @ pose[:, :3]).astype(np.float32)
    if "camera" in names:
      values["camera"] = pose.astype(np.float32).ravel()
    if "audio" in names:
      values["audio"] = self._sound()
    for name, step in (("flow", 1), ("flow_backward", -1)):
      if name in names:
        then = self._time(self._tick + step)
        values[name] = render.flow(self._scene, view, time, then, self._rays, self._focal)
    self._tick += 1
    return {name: values[name] for name in names}

  def _sound(self) -> Float[np.ndarray, " n"]:
    """Returns the sound since the tick before."""
    samples = samples_per_tick(self._config.rate_hz, self._config.audio_rate_hz)
    start, end = (self._time(self._tick + step) for step in (-1, 0))
    return sound.sound(self._scene, start, end, samples)

  def _sensed(self, depth: Float[np.ndarray, "H W"]) -> Float[np.ndarray, "H W"]:
    """Returns depth as the sensor gives it, 0 where missing; a formula of the seed and the tick."""
    if not self._config.sensor:
      return depth
    rng = np.random.default_rng((self._seed, self._tick))
    camera = intrinsics(self._config)
    return depth_sensor.read(self._config.sensor, depth, camera, rng).astype(np.float32)

  def _dha(
    self, depth: Float[np.ndarray, "H W"], pose: Float[np.ndarray, "3 4"]
  ) -> Float[np.ndarray, "H W 3"]:
    down, above = pose[1, :3], float(layout.ROOM[1] - pose[1, 3])
    channels = depth_geometry.dha(depth, intrinsics(self._config), down, above)
    return channels.astype(np.float32)

  def skip(self, ticks: int) -> None:
    """Skips ticks, at no cost."""
    self._tick += ticks

  def close(self) -> None:
    """Releases nothing."""
