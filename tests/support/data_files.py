"""Writes small folders in the formats of the field's tracking data."""

import io
import json
import pathlib
import pickle
from fractions import Fraction

import av
import cv2
import numpy as np
import PIL.Image
from extras import need
from scenes import moving


def jpeg(picture):
  return cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()


def png(picture):
  """Returns PNG of RGB, or of grey numbers of 8 or 16 bits."""
  return cv2.imencode(".png", picture[..., ::-1] if picture.ndim == 3 else picture)[1].tobytes()


def palette_png(ids, bits=8):
  """Returns a PNG of ids with a palette, as DAVIS has it."""
  image = PIL.Image.fromarray(ids.astype(np.uint8)).convert("P")
  image.putdata(ids.ravel().tolist())
  image.putpalette([(7 * i) % 256 for i in range(3 * 2**bits)])
  data = io.BytesIO()
  image.save(data, "png", bits=bits)
  return data.getvalue()


def tracks(num=4, ticks=6, size=32):
  """Returns tracks in [0, 1] that go right by a pixel a tick, and where they are hidden."""
  rng = np.random.default_rng(0)
  start = rng.uniform(4, size - 12, (num, 1, 2))
  points = (start + np.arange(ticks)[None, :, None] * [1, 0]) / size
  occluded = np.zeros((num, ticks), bool)
  occluded[1, :2] = True
  occluded[2] = True
  return points, occluded


def tapvid_video(ticks=6, size=32, *, as_jpeg=False):
  points, occluded = tracks(ticks=ticks, size=size)
  video = moving(ticks, size)
  stored = np.array([jpeg(frame) for frame in video]) if as_jpeg else video
  return {"video": stored, "points": points, "occluded": occluded}


def write_pickle(path: pathlib.Path, value, protocol=4):
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_bytes(pickle.dumps(value, protocol))
  return path


def masks(ticks=5, size=32, ids=(1, 2)):
  """Returns squares of ids on rows of their own that go right by a pixel a tick."""
  out = np.zeros((ticks, size, size), np.uint8)
  for n, thing in enumerate(ids):
    for t in range(ticks):
      out[t, 2 + 10 * n : 10 + 10 * n, 4 + t : 14 + t] = thing
  return out


def write_masked(pictures, annotations, masks, numbers=None, digits=5, write=palette_png):
  """Writes frames as JPEG and masks as PNG by number."""
  pictures.mkdir(parents=True)
  annotations.mkdir(parents=True)
  for t, frame in enumerate(moving(len(masks), masks.shape[1])):
    name = f"{t if numbers is None else numbers[t]:0{digits}d}"
    (pictures / f"{name}.jpg").write_bytes(jpeg(frame))
    (annotations / f"{name}.png").write_bytes(write(masks[t]))


def write_davis(root, clips, **options):
  """Writes clips by name."""
  for name, ids in clips.items():
    places = (root / kind / "480p" / name for kind in ("JPEGImages", "Annotations"))
    write_masked(*places, ids, **options)
  (root / "ImageSets" / "2017").mkdir(parents=True)
  (root / "ImageSets" / "2017" / "val.txt").write_text("\n".join(clips) + "\n\n")
  return root


def write_vip(root, clips):
  for name, ids in clips.items():
    places = root / "Images" / name, root / "Annotations" / "Category_ids" / name
    numbers = [1 + 25 * t for t in range(len(ids))]
    write_masked(*places, ids, numbers=numbers, digits=12, write=png)
  (root / "lists").mkdir(parents=True)
  (root / "lists" / "val_videos.txt").write_text("\n".join(clips))
  return root


def write_jhmdb(root, clips, size=(24, 32)):
  """Writes joints `[T, 15, 2]` by (action, name); "1" is train, "2" test, alternating."""
  need("scipy")
  from scipy.io import savemat

  lists = {}
  for number, ((action, name), joints) in enumerate(clips.items()):
    frames, positions = (root / k / action / name for k in ("Rename_Images", "joint_positions"))
    frames.mkdir(parents=True)
    positions.mkdir(parents=True)
    for t, frame in enumerate(moving(len(joints) + 1, 32)):  # one more than is annotated
      (frames / f"{t + 1:05d}.png").write_bytes(png(frame[: size[0], : size[1]]))
    savemat(positions / "joint_positions.mat", {"pos_img": joints.transpose(2, 1, 0)})
    lists.setdefault(action, []).append(f"{name}.avi {2 - number % 2} ")
  (root / "splits").mkdir(parents=True)
  for action, lines in lists.items():
    (root / "splits" / f"{action}_test_split1.txt").write_text("\n".join(lines) + "\n")
  return root


def write_mp4(path, frames):
  with av.open(str(path), "w") as container:
    stream = container.add_stream("libx264", rate=Fraction(30), options={"crf": "1"})
    stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
    for frame in frames:
      container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
    container.mux(stream.encode(None))


def write_perception_test(root, name="video_0001", ticks=6, **changes):
  """Writes a video with one track of a point (y, x as rows) and one of boxes."""
  (root / "videos").mkdir(parents=True)
  (root / "annotations").mkdir(parents=True)
  write_mp4(root / "videos" / f"{name}.mp4", moving(ticks, 32))
  point = {"id": 0, "frame_ids": [1, 2, 4], "points": [[0.5, 0.5, 0.5], [0.25, 0.28125, 0.34375]]}
  box = {
    "id": 0,
    "frame_ids": [0, 2, 4],
    "bounding_boxes": [[0.1, 0.2, 0.3, 0.6], [0.2, 0.2, 0.4, 0.6], [0.3, 0.2, 0.5, 0.6]],
    "initial_tracking_box": [0, 1, 0],
  }
  video = {
    "metadata": {"split": "valid", "video_id": name, "num_frames": ticks},
    "point_tracking": [point],
    "object_tracking": [box],
  } | changes
  other = {"metadata": {"split": "train"}, "point_tracking": [point], "object_tracking": []}
  text = json.dumps({name: video, "video_of_train": other})
  (root / "annotations" / "valid.json").write_text(text)
  return root


def movi(ticks=4, size=32):
  """Returns the features of a clip of MOVi."""
  points, occluded = tracks(ticks=ticks, size=size)
  return {
    "video": moving(ticks, size),
    "target_points": (points * size).astype(np.float32),
    "occluded": occluded.astype(int),
    "segmentations": masks(ticks, size)[..., None],
  }
