"""The scene of the MuJoCo stream: its file, its camera, its sounds, and flow from its poses."""

import ctypes
import os
import sys
from typing import Any, NamedTuple

import numpy as np

from perceiver_stream.utils.optional import has_global_tensorflow, require

FOVY_DEG = 50.0
NEAR_M, FAR_M = 0.1, 20.0
ROOM_M = 1.4  # half the side of the room
KINDS = ("box", "sphere", "capsule", "ellipsoid")
_DECAY_S, _CLICK_S = 0.03, 0.25


def load_mujoco() -> Any:
  """Returns the package, drawing without a screen: by EGL on a graphics card, or else OSMesa.

  Raises:
    ImportError: It is not installed.
    RuntimeError: Neither library is there, or it would crash; MUJOCO_GL, if set, is left as it is.
  """
  if sys.platform.startswith("linux") and "MUJOCO_GL" not in os.environ:
    has_card = os.path.exists("/dev/dri") or os.path.exists("/dev/nvidia0")
    if has_global_tensorflow() and not has_card:
      raise RuntimeError(
        "mujoco: drawing without a graphics card would crash beside the LLVM of TensorFlow, which "
        "was imported before; instead of `import tensorflow`, call "
        "perceiver_stream.utils.optional.require('tensorflow', 'tf')."
      )
    order = [("egl", "libEGL.so.1"), ("osmesa", "libOSMesa.so.8")]
    found = [name for name, library in order if _loads(library)]
    if not found:
      raise RuntimeError(
        "mujoco: no library to draw with, neither libEGL.so.1 nor libOSMesa.so.8; install one "
        "(Debian, Ubuntu: apt-get install libosmesa6, or libegl1 with a graphics card)."
      )
    os.environ["MUJOCO_GL"] = found[0] if has_card else found[-1]
  return require("mujoco", "sim")


def _loads(library: str) -> bool:
  try:
    ctypes.CDLL(library)
  except OSError:
    return False
  return True


def scene_xml(rng: np.random.Generator, num_things: int, timestep_s: float, size: Any) -> str:
  """Returns the scene: a walled floor, objects in the air over it, a pusher, a camera."""
  assets, bodies = [], []
  for k in range(num_things + 2):
    light, dark = rng.uniform(0.5, 1.0, 3), rng.uniform(0.0, 0.5, 3)
    kind = "2d" if k == 0 else "cube"
    repeat = 1 if k == 0 else 4  # textures per metre
    assets.append(
      f'<texture name="t{k}" type="{kind}" builtin="checker" width="64" height="64" mark="random" '
      f'random="0.05" rgb1="{_text(light)}" rgb2="{_text(dark)}" markrgb="1 1 1"/>'
      f'<material name="m{k}" texture="t{k}" texuniform="true" texrepeat="{repeat} {repeat}" specular="0" shininess="0"/>'
    )
  for k in range(num_things):
    place = (*rng.uniform(-0.8 * ROOM_M, 0.8 * ROOM_M, 2), rng.uniform(0.5, 2.5))
    size_m = rng.uniform(0.14, 0.3, 3)
    bodies.append(
      f'<body name="thing{k}" pos="{_text(place)}"><freejoint/><geom name="thing{k}" '
      f'type="{KINDS[rng.integers(len(KINDS))]}" size="{_text(size_m)}" density="300" '
      f'material="m{k + 2}"/></body>'
    )
  walls = [
    f'<geom name="wall{k}" type="box" pos="{_text((*(np.array(side) * ROOM_M), 0.25))}" '
    f'size="{_text((ROOM_M, 0.05, 0.25) if side[0] == 0 else (0.05, ROOM_M, 0.25))}" material="m0"/>'
    for k, side in enumerate(((1, 0), (-1, 0), (0, 1), (0, -1)))
  ]
  return f"""
<mujoco>
  <option timestep="{timestep_s!r}"/>
  <visual>
    <quality shadowsize="0" offsamples="0"/>
    <global fovy="{FOVY_DEG}" offheight="{size[0]}" offwidth="{size[1]}"/>
    <map znear="{NEAR_M}" zfar="{FAR_M}"/>
    <headlight ambient="0.4 0.4 0.4" diffuse="0 0 0" specular="0 0 0"/>
  </visual>
  <statistic extent="1" center="0 0 0"/>
  <asset>
    <texture type="skybox" builtin="gradient" rgb1="0.6 0.7 0.9" rgb2="0.2 0.3 0.5" width="64" height="64"/>
    {"".join(assets)}
  </asset>
  <worldbody>
    <light directional="true" pos="0 0 4" dir="0.3 0.2 -1" diffuse="0.6 0.6 0.6"/>
    <geom name="floor" type="plane" size="{FAR_M} {FAR_M} 1" material="m0"/>
    {"".join(walls)}
    <body name="pusher" pos="0 0 0.2">
      <joint name="push_x" type="slide" axis="1 0 0" range="-1.1 1.1" damping="20"/>
      <joint name="push_y" type="slide" axis="0 1 0" range="-1.1 1.1" damping="20"/>
      <geom name="pusher" type="cylinder" size="0.15 0.15" mass="5" material="m1"/>
    </body>
    {"".join(bodies)}
    <body name="eye" mocap="true"><camera name="eye" fovy="{FOVY_DEG}"/></body>
  </worldbody>
  <actuator>
    <position joint="push_x" kp="120" ctrlrange="-1 1"/>
    <position joint="push_y" kp="120" ctrlrange="-1 1"/>
  </actuator>
</mujoco>"""


def _text(numbers: Any) -> str:
  return " ".join(f"{float(n):.6f}" for n in numbers)


class Orbit(NamedTuple):
  """Motion of the camera: around the centre, nearer and farther, up and down."""

  phases: np.ndarray

  def pose(self, time_s: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns the position, and the rotation `[3, 3]` from camera (x right, y up, -z ahead)."""
    p = self.phases
    angle = 0.25 * time_s + 0.6 * np.sin(0.5 * time_s + p[0]) + p[1]
    radius = 2.9 + 0.4 * np.sin(0.7 * time_s + p[2])
    height = 1.9 + 0.5 * np.sin(0.45 * time_s + p[3])
    place = np.array([radius * np.cos(angle), radius * np.sin(angle), height])
    target = np.array([0.4 * np.sin(0.6 * time_s + p[4]), 0.4 * np.sin(0.8 * time_s + p[5]), 0.3])
    back = (place - target) / np.linalg.norm(place - target)
    right = np.cross((0.0, 0.0, 1.0), back)
    right /= np.linalg.norm(right)
    return place, np.stack([right, np.cross(back, right), back], axis=1)


class Poses(NamedTuple):
  """Positions of all objects at one time.

  Attributes:
    place: `[G, 3]` of the geoms, metres.
    turn: `[G, 3, 3]`, from geom to world.
    eye: `[3]` of the camera.
    eye_turn: `[3, 3]`, from camera (x right, y up, -z ahead) to world.
  """

  place: np.ndarray
  turn: np.ndarray
  eye: np.ndarray
  eye_turn: np.ndarray


def flow_between(depth: np.ndarray, geoms: np.ndarray, now: Poses, then: Poses) -> np.ndarray:
  """Returns the optical flow of the visible surface, `[H, W, 2]` float32 (x, y), pixels.

  Exact except for the rounding of depth: each pixel's point moves with its geom, both cameras are known.

  Args:
    depth: `[H, W]` metres along the optical axis at `now`.
    geoms: `[H, W]` geom visible at each pixel; -1 is none, which is static.
    now: Poses at the image's time.
    then: Poses at the other time, before or after.
  """
  height, width = depth.shape
  focal = focal_px(height)
  y, x = np.mgrid[:height, :width] + 0.5
  ray = np.stack([(x - width / 2) / focal, (height / 2 - y) / focal, -np.ones_like(x)], -1)
  world = (ray * depth[..., None]) @ now.eye_turn.T + now.eye  # [H, W, 3]
  moved = world.copy()
  for g in np.unique(geoms[geoms >= 0]):
    mask = geoms == g
    own = (world[mask] - now.place[g]) @ now.turn[g]
    moved[mask] = own @ then.turn[g].T + then.place[g]
  local = (moved - then.eye) @ then.eye_turn
  ahead = np.maximum(-local[..., 2], NEAR_M)
  at = np.stack([local[..., 0], -local[..., 1]], -1) * (focal / ahead)[..., None]
  return (at + (width / 2, height / 2) - np.stack([x, y], -1)).astype(np.float32)


def focal_px(height: int) -> float:
  """Returns the focal length in pixels, of both axes."""
  return height / 2 / float(np.tan(np.radians(FOVY_DEG) / 2))


class Clicks:
  """Sound of impacts: each a decaying tone, as loud as its impulse, higher the smaller the object."""

  def __init__(self, audio_rate_hz: int, samples: int):
    """Makes the sound of ticks of `samples`."""
    self.rate, self.samples = audio_rate_hz, samples
    time = np.arange(int(_CLICK_S * audio_rate_hz)) / audio_rate_hz
    self._time, self._decay = time, np.exp(-time / _DECAY_S)
    self._ahead = np.zeros(samples + len(time) + 1)

  def add(self, part: float, pitch_hz: float, impulse: float) -> None:
    """Strikes at a part in [0, 1) of the tick, with an impulse in newton seconds."""
    start = int(part * self.samples)
    tone = impulse * self._decay * np.sin(2 * np.pi * pitch_hz * self._time)
    self._ahead[start : start + len(tone)] += tone

  def read(self) -> np.ndarray:
    """Returns the tick's sound, float32 in [-1, 1], and advances to the next."""
    sound = np.tanh(self._ahead[: self.samples]).astype(np.float32)
    self._ahead = np.concatenate([self._ahead[self.samples :], np.zeros(self.samples)])
    return sound
