"""Writes small LeRobot data sets: two cameras, a state of 3 numbers and an action of 2."""

import json

import numpy as np
from video_files import picture, write_video

FPS = 25
CAMERAS = ("observation.images.top", "observation.images.wrist")
_DATA = {
  True: "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
  False: "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
}
_VIDEO = {
  True: "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
  False: "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
}


def info(v3=True, **changes):
  video = {"dtype": "video", "shape": [48, 96, 3], "names": ["height", "width", "channels"]}
  features = {camera: video for camera in CAMERAS} | {
    "observation.state": {"dtype": "float32", "shape": [3], "names": ["x", "y", "z"]},
    "action": {"dtype": "float32", "shape": [2], "names": None},
    "timestamp": {"dtype": "float32", "shape": [1], "names": None},
    "task": {"dtype": "string", "shape": [1], "names": None},
  }
  known = {"codebase_version": "v3.0" if v3 else "v2.1", "fps": FPS, "features": features}
  return known | {"chunks_size": 1000, "data_path": _DATA[v3], "video_path": _VIDEO[v3]} | changes


def rows(number, length):
  """Returns the columns of an episode; its state counts its frames, from 100 times its number on."""
  state = 100 * number + np.arange(length)[:, None] + np.array([0, 0.25, 0.5])
  return {
    "observation.state": state.astype(np.float32),
    "action": -state[:, :2].astype(np.float32),
    "timestamp": (np.arange(length) / FPS).astype(np.float32),
    "episode_index": np.full(length, number),
  }


def write_table(path, columns, **options):
  import pyarrow
  import pyarrow.parquet

  path.parent.mkdir(parents=True, exist_ok=True)
  columns = {n: v if isinstance(v, list) else [*v] for n, v in columns.items()}
  pyarrow.parquet.write_table(pyarrow.table(columns), path, **options)


def movie(path, first, num, **options):
  path.parent.mkdir(parents=True, exist_ok=True)
  make = lambda n, *size: picture(first + n, *size)  # noqa: E731
  write_video(path, num=num, make=make, sound_s=0, gop=5, **options)


def write_lerobot(folder, lengths, v3=True, **changes):
  """Writes a data set of episodes of some lengths; images are numbered over all of them."""
  (folder / "meta").mkdir(parents=True)
  (folder / "meta/info.json").write_text(json.dumps(info(v3, **changes)))
  (_write_v3 if v3 else _write_v2)(folder, lengths)
  return folder


def _write_v3(folder, lengths):
  starts = np.cumsum([0, *lengths[:-1]])
  episodes = {"episode_index": [*range(len(lengths))], "length": [*lengths]}
  for name in ("data", *(f"videos/{camera}" for camera in CAMERAS)):
    episodes |= {f"{name}/{part}_index": [0] * len(lengths) for part in ("chunk", "file")}
  for place, camera in enumerate(CAMERAS):
    episodes[f"videos/{camera}/from_timestamp"] = [float(start / FPS) for start in starts]
    movie(folder / f"videos/{camera}/chunk-000/file-000.mp4", 1000 * place, sum(lengths))
  write_table(folder / "meta/episodes/chunk-000/file-000.parquet", episodes)
  parts = [rows(number, length) for number, length in enumerate(lengths)]
  columns = {name: [v for part in parts for v in part[name]] for name in parts[0]}
  write_table(folder / "data/chunk-000/file-000.parquet", columns)


def _write_v2(folder, lengths):
  lines = [{"episode_index": n, "length": length} for n, length in enumerate(lengths)]
  (folder / "meta/episodes.jsonl").write_text("\n".join(map(json.dumps, lines)))
  first = 0
  for number, length in enumerate(lengths):
    write_table(folder / f"data/chunk-000/episode_{number:06d}.parquet", rows(number, length))
    for place, camera in enumerate(CAMERAS):
      path = folder / f"videos/chunk-000/{camera}/episode_{number:06d}.mp4"
      movie(path, 1000 * place + first, length)
    first += length
