"""MuJoCo: objects that fall, roll and are pushed in a room, under a moving camera.

Needs the `sim` extra and a library to draw with (Debian: libosmesa6, or libegl1). Everything is
exact, from the simulator's state.

  pixels          RGB; no shadows
  audio           a click per impact, as loud as its impulse (see `sim_scene.Clicks`)
  depth           metres along the optical axis
  segmentation    0 room, 1 pusher, 2 and more: the objects
  flow            `[H, W, 2]` pixels (x, y) to the next tick, of the visible surface
  flow_backward   the same to the tick before
  camera          position in metres, rotation as quaternion (w, x, y, z); it looks along its -z, y is up
  actions         target of the pusher since the previous tick (x, y), m
  proprioception  the pusher's position (x, y) in m, velocity in m/s, and its motors' force (x, y, 10 N)

Pixels are the same bits again on the same machine; another one's drawing library may round otherwise.

Source: Todorov et al. 2012, "MuJoCo: A physics engine for model-based control". The scene is ours.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grain
import numpy as np

from perceiver_stream.streams.base import (
  StreamConfig,
  audio_spec,
  exact_rate,
  pixels_spec,
  samples_per_tick,
)
from perceiver_stream.streams.sim_recordings import SimStream, seed_of
from perceiver_stream.streams.sim_scene import (
  FAR_M,
  NEAR_M,
  Clicks,
  Orbit,
  Poses,
  flow_between,
  load_mujoco,
  scene_xml,
)
from perceiver_stream.types import ModalitySpec

MODALITIES = (
  "pixels", "audio", "depth", "segmentation", "flow", "flow_backward", "camera", "actions",
  "proprioception",
)  # fmt: skip
_LONGEST_STEP_S = 0.004
_LIFT_S = 1.5  # an object is thrown up again every so often, at random
_LOUDNESS = 0.1  # of an impulse of 1 Ns
_YOUNG_STEPS = 5  # of a contact, in which its force is an impact


@dataclass(kw_only=True)
class Config(StreamConfig):
  """A room with objects.

  Attributes:
    height: Rows of the image.
    width: Columns.
    num_things: Number of falling objects; segmentation ids 2 to `num_things` + 1.
    ticks_per_recording: Ticks after which a new room begins, with `is_first`; 0 is never. Going to a
      tick costs the physics of its recording up to there.
    modalities: Modalities of a tick, a subset of `MODALITIES`.
    seed: Of the room; row r has another one than row r + 1.
  """

  height: int = 64
  width: int = 64
  num_things: int = 6
  ticks_per_recording: int = 1500
  modalities: tuple[str, ...] = ("pixels", "audio", "depth", "segmentation", "flow")
  seed: int = 0

  def validate(self) -> None:
    """Checks the fields; raises ValueError."""
    super().validate()
    for name, least, most in (
      ("height", 8, 2048), ("width", 8, 2048), ("num_things", 0, 64), ("seed", 0, 2**31 - 1),
    ):  # fmt: skip
      if not least <= getattr(self, name) <= most:
        raise ValueError(f"mujoco: {name}={getattr(self, name)}; use {least} to {most}.")
    if self.ticks_per_recording < 0:
      raise ValueError(f"mujoco: ticks_per_recording={self.ticks_per_recording}; 0 is never.")
    unknown = sorted(set(self.modalities) - set(MODALITIES))
    if unknown or not self.modalities:
      raise ValueError(f"mujoco: modalities={self.modalities}; use some of {MODALITIES}.")
    if "audio" in self.modalities and not self.audio_rate_hz:
      raise ValueError("mujoco: audio_rate_hz=0; set it, or leave 'audio' out of modalities.")


def specs(config: Config) -> dict[str, ModalitySpec]:
  """Returns the spec of each modality of a tick."""
  rate, size = float(exact_rate(config.rate_hz)), (config.height, config.width)
  flow = ModalitySpec(shape=(*size, 2), maximum=0.0, rate_hz=rate, units="px/tick")
  known: dict[str, Callable[[], ModalitySpec]] = {
    "pixels": lambda: pixels_spec(config, *size),
    "audio": lambda: audio_spec(config),
    "depth": lambda: ModalitySpec(
      shape=size, minimum=NEAR_M, maximum=FAR_M, rate_hz=rate, units="m"
    ),
    "segmentation": lambda: ModalitySpec(
      shape=size, dtype="int32", maximum=config.num_things + 1.0, rate_hz=rate, units="class id"
    ),
    "flow": lambda: flow,
    "flow_backward": lambda: flow,
    "camera": lambda: ModalitySpec(shape=(7,), maximum=0.0, rate_hz=rate, units="m, 1"),
    "actions": lambda: ModalitySpec(
      shape=(2,), minimum=-1.0, rate_hz=rate, units="m", offset_s=-1 / rate
    ),
    "proprioception": lambda: ModalitySpec(
      shape=(6,), maximum=0.0, rate_hz=rate, units="m, m/s, 10 N"
    ),
  }
  return {name: known[name]() for name in config.modalities}


def open_row(config: Config, row: int = 0, num_rows: int = 1) -> grain.IterDataset:
  """Returns the stream of one row."""
  del num_rows
  return SimStream(config, row, Room)


class Room:
  """One recording. A tick is drawn, then physics advances: flow needs the next positions."""

  def __init__(self, config: Config, row: int, recording: int):
    self.config = config
    self._mujoco = load_mujoco()
    self._rng = np.random.default_rng(seed_of(config.seed, row, recording))
    self._tick_s = float(1 / exact_rate(config.rate_hz))
    self._steps = int(np.ceil(self._tick_s / _LONGEST_STEP_S))
    size = (config.height, config.width)
    xml = scene_xml(self._rng, config.num_things, self._tick_s / self._steps, size)
    self._model = self._mujoco.MjModel.from_xml_string(xml)
    self._data = self._mujoco.MjData(self._model)
    self._orbit = Orbit(self._rng.uniform(0, 2 * np.pi, 6))
    self._push = self._rng.uniform(0.3, 1.3, (2, 2)), self._rng.uniform(0, 2 * np.pi, (2, 2))
    self._ages: dict[tuple[int, int], int] = {}
    rate = config.audio_rate_hz
    self._clicks = Clicks(rate, samples_per_tick(config.rate_hz, rate)) if rate else None
    self._renderer: Any = None
    self._aim()
    self._classes = np.array(
      [class_of(self._model.geom(g).name) for g in range(self._model.ngeom)], np.int32
    )
    self._past = self._snapshot()
    self._advance()
    self._now = self._snapshot()
    self._shown = self._measure()

  def read(self) -> dict[str, np.ndarray]:
    """Returns the next tick."""
    pictures = self._draw()
    shown = self._shown
    self._advance()
    then = self._snapshot()
    depth, geoms = pictures["depth"], pictures["geoms"]
    made: dict[str, Callable[[], np.ndarray]] = {
      "pixels": lambda: pictures["pixels"],
      "depth": lambda: np.clip(depth, np.float32(NEAR_M), np.float32(FAR_M)),
      "segmentation": lambda: np.where(geoms < 0, np.int32(0), self._classes[geoms]),
      "flow": lambda: flow_between(depth, geoms, self._now, then),
      "flow_backward": lambda: flow_between(depth, geoms, self._now, self._past),
    }
    values = {n: made[n]() if n in made else shown[n] for n in self.config.modalities}
    self._past, self._now, self._shown = self._now, then, self._measure()
    return values

  def skip(self, ticks: int) -> None:
    """Advances without rendering."""
    for _ in range(ticks):
      self._advance()
      self._past, self._now, self._shown = self._now, self._snapshot(), self._measure()

  def close(self) -> None:
    """Lets go of the drawing library."""
    if self._renderer is not None:
      self._renderer.close()
      self._renderer = None

  def _draw(self) -> dict[str, np.ndarray]:
    if self._renderer is None:  # in the thread that will use it
      size = (self.config.height, self.config.width)
      try:
        self._renderer = self._mujoco.Renderer(self._model, *size)
      except Exception as error:
        raise RuntimeError(
          f"mujoco: cannot draw: {error!r}; set MUJOCO_GL=osmesa (Debian: libosmesa6) or =egl before "
          f"mujoco is first imported."
        ) from error
    renderer = self._renderer
    renderer.update_scene(self._data, "eye")
    pictures = {"pixels": renderer.render().copy()}
    renderer.enable_depth_rendering()
    pictures["depth"] = renderer.render().copy()
    renderer.disable_depth_rendering()
    renderer.enable_segmentation_rendering()
    pictures["geoms"] = renderer.render()[..., 0].copy()
    renderer.disable_segmentation_rendering()
    return pictures

  def _aim(self) -> None:
    """Puts the camera where it is at the time of the physics, and works out all poses."""
    place, turn = self._orbit.pose(self._data.time)
    self._data.mocap_pos[0] = place
    self._mujoco.mju_mat2Quat(self._data.mocap_quat[0], turn.ravel())
    self._mujoco.mj_forward(self._model, self._data)

  def _advance(self) -> None:
    """Advances by a tick: pushes, lifts an object now and then, and records impacts."""
    model, data = self._model, self._data
    speeds, phases = self._push
    waves = np.sin(speeds * data.time + phases)
    data.ctrl[:] = 0.6 * waves[:, 0] + 0.4 * waves[:, 1]
    if self.config.num_things and self._rng.random() < self._tick_s / _LIFT_S:
      thing = self._rng.integers(self.config.num_things)
      start = model.body(f"thing{thing}").dofadr[0]
      data.qvel[start : start + 6] += self._rng.uniform((-1, -1, 3, -4, -4, -4), (1, 1, 5, 4, 4, 4))
    for step in range(self._steps):
      self._mujoco.mj_step(model, data)
      self._listen(step / self._steps)
    self._aim()

  def _listen(self, part: float) -> None:
    ages, force = {}, np.zeros(6)
    for i in range(self._data.ncon):
      contact = self._data.contact[i]
      pair = (int(contact.geom1), int(contact.geom2))
      ages[pair] = self._ages.get(pair, 0) + 1
      if ages[pair] <= _YOUNG_STEPS and self._clicks is not None:
        self._mujoco.mj_contactForce(self._model, self._data, i, force)
        impulse = float(force[0]) * self._model.opt.timestep
        radius = min(self._model.geom_rbound[g] or np.inf for g in pair)  # a plane's is 0
        self._clicks.add(part, 120 / radius, _LOUDNESS * impulse)
    self._ages = ages

  def _measure(self) -> dict[str, np.ndarray]:
    """Returns the modalities of a tick other than images."""
    data = self._data
    parts = (data.qpos[:2], data.qvel[:2], data.actuator_force / 10)
    eye = np.concatenate([data.mocap_pos[0], data.mocap_quat[0]])
    shown = {
      "camera": eye.astype(np.float32),
      "actions": data.ctrl.astype(np.float32),
      "proprioception": np.concatenate(parts).astype(np.float32),
    }
    if self._clicks is not None:
      shown["audio"] = self._clicks.read()
    return shown

  def _snapshot(self) -> Poses:
    data, count = self._data, self._model.ngeom
    return Poses(
      data.geom_xpos.copy(),
      data.geom_xmat.reshape(count, 3, 3).copy(),
      data.cam_xpos[0].copy(),
      data.cam_xmat[0].reshape(3, 3).copy(),
    )


def class_of(geom: str) -> int:
  """Returns the segmentation id of a geom by its name.

  >>> class_of("floor"), class_of("pusher"), class_of("thing0")
  (0, 1, 2)
  """
  if geom.startswith("thing"):
    return int(geom.removeprefix("thing")) + 2
  return int(geom == "pusher")
