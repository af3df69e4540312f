"""Writes small folders of pictures with depth, in the formats of the field."""

from fractions import Fraction

import av
import numpy as np
from video_files import picture


def encode(array):
  """Returns PNG: gray uint16 `[H, W]`, gray uint8 `[H, W]`, or RGB `[H, W, 3]`."""
  name = {(2, "uint16"): "gray16be", (2, "uint8"): "gray"}.get(
    (array.ndim, str(array.dtype)), "rgb24"
  )
  codec = av.CodecContext.create("png", "w")
  codec.height, codec.width, codec.pix_fmt = *array.shape[:2], name
  codec.time_base = Fraction(1, 25)
  frame = av.VideoFrame.from_ndarray(array, format="gray16le" if name == "gray16be" else name)
  packets = [*codec.encode(frame.reformat(format=name)), *codec.encode(None)]
  return b"".join(bytes(packet) for packet in packets)


def raw_depth(number, height=24, width=48):
  """Returns uint16 depth with `number` + 1 everywhere but in its first column, which is unknown."""
  depth = np.full((height, width), number + 1, np.uint16)
  depth[:, 0] = 0
  return depth


def write_visp(folder, num, start=1):
  folder.mkdir(parents=True)
  for n in range(start, start + num):
    gray = picture(n, 24, 48)[..., 0]
    (folder / f"image_{n:04d}.pgm").write_bytes(b"P5 48 24 255\n" + gray.tobytes())
    head = np.array([24, 48], "<u4").tobytes()
    (folder / f"depth_image_{n:04d}.bin").write_bytes(head + raw_depth(n).astype("<u2").tobytes())
  return folder


def write_tum(folder, num, rate=25.0, late=0.004, start=1305031102.1753):
  """Depth comes `late` seconds after each picture, poses twice as often as pictures."""
  for inside in ("rgb", "depth"):
    (folder / inside).mkdir(parents=True)
  lines = {"rgb": ["# color images", "# timestamp filename"], "depth": [], "groundtruth": []}
  for n in range(num):
    for name, shift, array in (("rgb", 0, picture(n, 24, 48)), ("depth", late, raw_depth(n))):
      time = f"{start + n / rate + shift:.6f}"
      (folder / name / f"{time}.png").write_bytes(encode(array))
      lines[name].append(f"{time} {name}/{time}.png")
    for k in range(2):
      half = np.sqrt(0.5)  # a quarter turn about z
      time = start + (n + k / 2) / rate
      lines["groundtruth"].append(f"{time:.6f} {n} {k} 0.5 0 0 {half} {half}")
  for name, text in lines.items():
    (folder / f"{name}.txt").write_text("\n".join(text) + "\n")
  return folder


def write_scannet(folder, num, step=1):
  for inside in ("color", "depth", "pose"):
    (folder / inside).mkdir(parents=True)
  for n in range(num):
    (folder / "color" / f"{n * step}.png").write_bytes(encode(picture(n, 48, 96)))
    (folder / "depth" / f"{n * step}.png").write_bytes(encode(raw_depth(n)))
    pose = np.eye(4)
    pose[0, 3] = n
    np.savetxt(folder / "pose" / f"{n * step}.txt", pose)
  return folder
