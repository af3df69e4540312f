"""Ray casting in a room: visible surfaces, their colours, and their optical flow."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from perceiver_stream.streams.rooms.layout import ROOM, TEXELS_PER_M, TEXTURE, Scene, Solid

Rays = Float[np.ndarray, "H W 3"]
_NEAR = 0.02  # metres


class View(NamedTuple):
  """The visible surface at each pixel.

  Attributes:
    depth: Metres along the optical axis, `[H, W]` float32.
    label: Index in `layout.CLASSES`, `[H, W]` int32.
    point: In the world, `[H, W, 3]`.
    normal: In the world, towards the camera, `[H, W, 3]`.
    surface: 0 to 5 the room's surfaces, 6 and more the solids, `[H, W]`.
    uv: Place on the surface in metres, `[H, W, 2]`.
  """

  depth: Float[np.ndarray, "H W"]
  label: Int[np.ndarray, "H W"]
  point: Rays
  normal: Rays
  surface: Int[np.ndarray, "H W"]
  uv: Float[np.ndarray, "H W 2"]


def rays(height: int, width: int, intrinsics: Float[np.ndarray, " 4"]) -> Rays:
  """Returns the ray of every pixel in camera axes, of length 1 along the optical axis."""
  fx, fy, cx, cy = intrinsics
  x, y = np.meshgrid((np.arange(width) + 0.5 - cx) / fx, (np.arange(height) + 0.5 - cy) / fy)
  return np.stack([x, y, np.ones_like(x)], axis=-1).astype(np.float32)


def cast(scene: Scene, pose: Float[np.ndarray, "3 4"], time_s: float, rays: Rays) -> View:
  """Returns the visible surfaces from a pose."""
  eye = pose[:, 3].astype(np.float32)
  ray = rays @ pose[:, :3].T.astype(np.float32)
  ray = np.where(np.abs(ray) < 1e-9, np.float32(1e-9), ray)
  ends = np.where(ray > 0, ROOM.astype(np.float32) - eye, -eye) / ray
  axis = np.argmin(ends, axis=-1)
  depth = np.take_along_axis(ends, axis[..., None], -1)[..., 0]
  upper = np.take_along_axis(ray, axis[..., None], -1)[..., 0] > 0
  surface = 2 * axis + upper
  normal = np.zeros_like(ray)
  np.put_along_axis(normal, axis[..., None], np.where(upper, -1, 1)[..., None], -1)
  label = np.asarray([2, 2, 1, 0, 2, 2], np.int32)[surface]
  point = eye + depth[..., None] * ray
  # Walls across x show (z, y), floor and ceiling (x, z), walls across z (x, y).
  uv = np.where((axis == 0)[..., None], point[..., 2:0:-1], point[..., 0:2])
  uv = np.where((axis == 1)[..., None], point[..., 0::2], uv)
  view = [depth, label, point, normal, surface, uv]
  for index, solid in enumerate(scene.solids):
    _draw(view, index + 6, solid, solid.place(time_s).astype(np.float32), eye, ray)
  return View(view[0].astype(np.float32), *view[1:])


def _draw(
  view: list[np.ndarray], surface: int, solid: Solid, centre: np.ndarray, eye: np.ndarray, ray: Rays
) -> None:
  """Puts a solid where it is nearer than what the view holds."""
  rows, columns = _bounds(solid, centre - eye, ray)
  if rows.stop <= rows.start or columns.stop <= columns.start:
    return
  cos, sin = np.float32(np.cos(solid.yaw)), np.float32(np.sin(solid.yaw))
  own = np.asarray([[cos, 0, -sin], [0, 1, 0], [sin, 0, cos]], np.float32)  # world to solid
  start, towards = own @ (eye - centre), ray[rows, columns] @ own.T
  distance, local = _HITS[solid.shape](start, towards, solid.half.astype(np.float32))
  nearer = (distance > _NEAR) & (distance < view[0][rows, columns])
  if not nearer.any():
    return
  hit = (start + distance[nearer][:, None] * towards[nearer]).astype(np.float32)
  normal, uv = local(hit)
  values = (
    distance[nearer], solid.label, hit @ own + centre, normal @ own, surface, uv,
  )  # fmt: skip
  for array, value in zip(view, values, strict=True):
    array[rows, columns][nearer] = value


def _bounds(solid: Solid, centre: np.ndarray, ray: Rays) -> tuple[slice, slice]:
  """Returns the rows and columns of pixels whose rays pass a ball around the solid."""
  radius2 = np.float32(np.sum(solid.half**2))
  if centre @ centre <= radius2:
    return slice(0, len(ray)), slice(0, ray.shape[1])
  along = ray @ centre
  square = np.einsum("hwc,hwc->hw", ray, ray)
  passes = (along > 0) & ((centre @ centre - radius2) * square <= along * along)
  rows, columns = np.flatnonzero(passes.any(axis=1)), np.flatnonzero(passes.any(axis=0))
  if not len(rows):
    return slice(0, 0), slice(0, 0)
  return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def _root(a: np.ndarray, b: np.ndarray, c: np.floating) -> np.ndarray:
  """Returns the smaller root of a t^2 + 2 b t + c, infinity where there is none."""
  under = b * b - a * c
  with np.errstate(divide="ignore", invalid="ignore"):
    return np.where((under > 0) & (a > 0), (-b - np.sqrt(np.maximum(under, 0))) / a, np.inf)


def _hit_box(start, towards, half):
  safe = np.where(np.abs(towards) < 1e-9, np.float32(1e-9), towards)
  one, other = (-half - start) / safe, (half - start) / safe
  enter, leave = np.minimum(one, other).max(axis=-1), np.maximum(one, other).min(axis=-1)

  def local(hit):
    axis = np.argmax(np.abs(hit) / half, axis=-1)
    normal = np.zeros_like(hit)
    rows = np.arange(len(hit))
    normal[rows, axis] = np.sign(hit[rows, axis])
    uv = np.where((axis == 0)[:, None], hit[:, 2:0:-1], hit[:, 0:2])
    return normal, np.where((axis == 1)[:, None], hit[:, 0::2], uv)

  return np.where(enter < leave, enter, np.inf), local


def _hit_ball(start, towards, half):
  square = np.sum(towards * towards, axis=-1)
  distance = _root(square, towards @ start, np.float32(start @ start - half[0] ** 2))

  def local(hit):
    angle = np.arctan2(hit[:, 2], hit[:, 0]) * half[0]
    return hit / half[0], np.stack([angle, hit[:, 1]], axis=-1)

  return distance, local


def _hit_cylinder(start, towards, half):
  flat, from_axis = towards[..., 0::2], start[0::2]
  square = np.sum(flat * flat, axis=-1)
  side = _root(square, flat @ from_axis, np.float32(from_axis @ from_axis - half[0] ** 2))
  with np.errstate(invalid="ignore"):
    height = start[1] + side * towards[..., 1]
  side = np.where(np.abs(height) <= half[1], side, np.inf)
  down = np.where(np.abs(towards[..., 1]) < 1e-9, np.float32(1e-9), towards[..., 1])
  cap = (-np.sign(down) * half[1] - start[1]) / down
  at = from_axis + cap[..., None] * flat
  cap = np.where(np.sum(at * at, axis=-1) <= half[0] ** 2, cap, np.inf)
  cap = np.where(cap > _NEAR, cap, np.inf)

  def local(hit):
    on_cap = (np.abs(hit[:, 1]) >= half[1] * (1 - 1e-4))[:, None]
    round_normal = hit * np.asarray([1, 0, 1], np.float32) / half[0]
    flat_normal = np.sign(hit) * np.asarray([0, 1, 0], np.float32)
    angle = np.arctan2(hit[:, 2], hit[:, 0]) * half[0]
    uv = np.where(on_cap, hit[:, 0::2], np.stack([angle, hit[:, 1]], axis=-1))
    return np.where(on_cap, flat_normal, round_normal), uv

  return np.minimum(side, cap), local


_HITS = {"box": _hit_box, "ball": _hit_ball, "cylinder": _hit_cylinder}


def shade(scene: Scene, view: View, time_s: float) -> np.ndarray:
  """Returns RGB images, `[H, W, 3]` uint8: textures under one light, without shadows."""
  texture = np.concatenate([*scene.surfaces, *(solid.texture for solid in scene.solids)])
  flicker = scene.level.flicker * np.sin(2.1 * time_s) * np.sin(0.37 * time_s + 1)
  to_light = scene.light.astype(np.float32) - view.point
  distance = np.sqrt(np.einsum("hwc,hwc->hw", to_light, to_light))
  slant = np.einsum("hwc,hwc->hw", to_light, view.normal) / distance
  light = (0.55 + 0.6 * np.maximum(slant, 0) / (1 + 0.05 * distance**2)) * (1 + flicker)
  uv = TEXELS_PER_M * view.uv
  colour = _textured(texture, view.surface, uv[..., 0], uv[..., 1])
  return np.clip(colour * light[..., None], 0, 255).astype(np.uint8)


def _textured(texture: np.ndarray, surface: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
  """Returns colours read bilinearly from textures that stand above each other."""
  left, top = np.floor(x), np.floor(y)
  part_x, part_y = (x - left)[..., None], (y - top)[..., None]
  columns, rows = left.astype(np.int32), top.astype(np.int32)
  flat = texture.reshape(-1)
  base = surface.astype(np.int32) * TEXTURE

  def tap(dx: int, dy: int) -> np.ndarray:
    index = (base + ((rows + dy) & (TEXTURE - 1))) * TEXTURE + ((columns + dx) & (TEXTURE - 1))
    return flat.take(index)[..., None].view(np.uint8)[..., :3].astype(np.float32)

  upper = tap(0, 0) * (1 - part_x) + tap(1, 0) * part_x
  lower = tap(0, 1) * (1 - part_x) + tap(1, 1) * part_x
  return upper * (1 - part_y) + lower * part_y


def flow(
  scene: Scene, view: View, now_s: float, then_s: float, rays: Rays, focal: float
) -> Float[np.ndarray, "H W 2"]:
  """Returns the optical flow of the visible surfaces until another time, in pixels (x, y).

  A point that is behind the camera by then is put at a thousandth of a metre ahead of it.
  """
  point = view.point.astype(np.float64)
  for index, solid in enumerate(scene.solids):
    if solid.sway.any():
      point[view.surface == index + 6] += solid.place(then_s) - solid.place(now_s)
  pose = scene.pose(then_s)
  in_view = (point - pose[:, 3]) @ pose[:, :3]
  ahead = np.maximum(in_view[..., 2:], 1e-3)
  return (focal * (in_view[..., :2] / ahead - rays[..., :2])).astype(np.float32)
