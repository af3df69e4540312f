"""Writes small folders in the formats of data sets of colour and depth."""

import json
import struct

import cv2
import numpy as np

SIZE = (12, 16)


def picture(number, size=SIZE):
  """Returns RGB of one colour for each number, so that JPEG keeps it."""
  return np.full((*size, 3), (40 * number + 20, 200 - 30 * number, 90), np.uint8)


def depth_values(number, size=SIZE):
  """Returns uint16 depth that rises from left to right; its first column is unknown."""
  values = np.broadcast_to(1000 + 100 * number + 10 * np.arange(size[1]), size).astype(np.uint16)
  values = values.copy()
  values[:, 0] = 0
  return values


def label_values(number, size=SIZE):
  labels = np.zeros(size, np.uint16)
  labels[size[0] // 2 :] = number + 300
  return labels


def save(path, array):
  """Writes PNG or JPEG, RGB or numbers of 8 or 16 bits."""
  path.parent.mkdir(parents=True, exist_ok=True)
  assert cv2.imwrite(str(path), array[..., ::-1] if array.ndim == 3 else array)


def text(path, rows):
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text("\n".join(" ".join(map(str, row)) for row in rows) + "\n")


def pose_rows(number):
  """Returns the first three rows of a quarter turn about y with a place of its own."""
  return [[0, 0, 1, number], [0, 1, 0, 0.5], [-1, 0, 0, 2]]


def write_scannet(root, num=3, colour_size=(24, 32)):
  for scene in ("scene0000_00", "scene0001_00"):
    folder = root / scene
    for n in range(num):
      save(folder / "color" / f"{20 * n}.jpg", picture(n, colour_size))
      save(folder / "depth" / f"{20 * n}.png", depth_values(n))
      save(folder / "label-filt" / f"{20 * n}.png", label_values(n, colour_size))
      rows = [*pose_rows(n), [0, 0, 0, 1]] if n != 1 else 4 * [4 * ["-inf"]]
      text(folder / "pose" / f"{20 * n}.txt", rows)
    matrix = [[15, 0, 7.5, 0], [0, 15, 5.5, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    text(folder / "intrinsic" / "intrinsic_depth.txt", matrix)
  return root


def write_icl(root, num=3):
  lines, poses = [], []
  for n in range(num):
    save(root / "rgb" / f"{n}.png", picture(n))
    save(root / "depth" / f"{n}.png", depth_values(n))
    lines.append([n, f"depth/{n}.png", n, f"rgb/{n}.png"])
    if n:  # the first has no pose
      poses.append([n, n, 0.25, -1, np.sin(0.2), 0, 0, np.cos(0.2)])  # about x
  text(root / "associations.txt", lines)
  text(root / "livingRoom0.gt.freiburg", poses)
  return root


def write_tum(root, times, depth_times, pose_times):
  for kind, at in (("rgb", times), ("depth", depth_times)):
    for n, time in enumerate(at):
      array = picture(n) if kind == "rgb" else depth_values(n)
      save(root / kind / f"{time:.6f}.png", array)
    text(root / f"{kind}.txt", [["# timestamp filename"], *[[f"{t:.6f}", f"{kind}/{t:.6f}.png"] for t in at]])  # fmt: skip
  half = np.sqrt(0.5)
  text(root / "groundtruth.txt", [[f"{t:.6f}", t, 0, 1, 0, half, 0, half] for t in pose_times])
  return root


def write_sun(root, names=("kv1/NYUdata/NYU0001", "xtion/a/b"), broken=()):
  for n, name in enumerate(names):
    folder = root / name
    save(folder / "image" / "NYU.jpg", picture(n))
    for kind, shift in (("depth_bfx", 0), ("depth", 5)):
      value = depth_values(n).astype(np.uint32) + shift * (depth_values(n) > 0)
      save(folder / kind / "x.png", ((value << 3) | (value >> 13)).astype(np.uint16))
    text(folder / "intrinsics.txt", [[15, 0, 7.5], [0, 14, 5.5], [0, 0, 1]])
    text(folder / "extrinsics" / "2015.txt", [[1, 0, 0, 0], [0, 0.8, -0.6, 0], [0, 0.6, 0.8, 0]])
    square = {"x": [4, 11, 11, 4], "y": [2, 2, 8, 8], "object": 1}
    whole = {"x": [0, 15, 15, 0], "y": [0, 0, 11, 11], "object": 0}
    odd = {"x": [3], "y": [4], "object": 7}
    found = {"objects": [{"name": "Wall "}, {"name": "chair"}, None], "frames": [{"polygon": [whole, odd, square]}]}  # fmt: skip
    path = folder / "annotation2Dfinal" / "index.json"
    path.parent.mkdir()
    path.write_text("{" if name in broken else json.dumps(found))
  return root


# --- Protocol Buffers


def varint(value):
  found = bytearray()
  while value > 127:
    found.append(value & 127 | 128)
    value >>= 7
  return bytes([*found, value])


def field(number, value):
  """Returns a field: of a whole number, a float (32 bits), text or a message."""
  if isinstance(value, int):
    return varint(number << 3) + varint(value)
  if isinstance(value, float):
    return varint(number << 3 | 5) + struct.pack("<f", value)
  data = value.encode() if isinstance(value, str) else value
  return varint(number << 3 | 2) + varint(len(data)) + data


def point(x, y, z):
  return b"".join(field(i + 1, float(v)) for i, v in enumerate((x, y, z)))


def shutter(place, target, time):
  return field(1, point(*place)) + field(2, point(*target)) + field(3, float(time))


def view(number, place, target):
  later = (place[0] + 0.5, *place[1:])
  moved = (target[0] + 0.5, *target[1:])
  return (
    field(1, number)
    + field(2, shutter(place, target, number / 25))
    + field(3, shutter(later, moved, number / 25 + 0.02))
  )


def write_scenenet(root, num=2, split="val"):
  """Depth is that of a wall 2 m ahead; views look along x of a world with y up."""
  height, width = SIZE
  x = (np.arange(width) + 0.5 - width / 2) / (width / 2 / np.tan(np.radians(30)))
  y = (np.arange(height)[:, None] + 0.5 - height / 2) / (height / 2 / np.tan(np.radians(22.5)))
  ray = np.round(2000 * np.sqrt(1 + x * x + y * y)).astype(np.uint16)
  views = b""
  for n in range(num):
    folder = root / split / "0" / "7"
    save(folder / "photo" / f"{25 * n}.jpg", picture(n))
    save(folder / "depth" / f"{25 * n}.png", ray)
    ids = np.zeros(SIZE, np.uint16)
    ids[4:8] = 9
    save(folder / "instance" / f"{25 * n}.png", ids)
    views += field(3, view(25 * n, (float(n), 1.0, 3.0), (float(n) + 4.0, 1.0, 3.0)))
  instances = field(2, field(1, 0)) + field(2, field(1, 9) + field(2, "04379243"))
  trajectory = field(1, field(1, 4)) + instances + views + field(4, "0/7")
  (root / f"scenenet_rgbd_{split}.pb").write_bytes(field(1, trajectory))
  return root
