"""Ego4D: first-person video with narrations.

A narration has a time and no length; the clip is the second before and the second after it, which is
our choice. Splits are those of the benchmarks in ego4d.json: episodic memory (em), audio-visual (av),
hands and objects (fho). Narrations of both passes are taken, in the order of their times. manifest.csv,
which lists where videos are stored, is not needed.

Source: Grauman et al. 2022, arXiv 2110.07058; the schema of ego4d.json in its documentation, and public
readers of narration.json, whose videos are at the top or under "videos" (both are read).
"""

import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

from perceiver_stream.streams.clip_sets.base import (
  About,
  ClipSet,
  Listed,
  annotation,
  as_rows,
  object_of,
  read_json,
)

ABOUT = About(
  "Ego4D",
  "the command ego4d of the repository facebookresearch/Ego4d (licence to sign)",
  "  ego4d.json                        (videos: video_uid, split_em, split_av, split_fho)\n"
  "  v2/annotations/narration.json     (video_uid: narration_pass_1, narration_pass_2)\n"
  "  v2/full_scale/<video_uid>.mp4 ... (or v1/..., or without the version)",
)
HALF_S = 1.0
BENCHMARKS = ("em", "av", "fho")
SPLITS = ("all", *(f"{b}_{part}" for b in BENCHMARKS for part in ("train", "val", "test")))
_VERSIONS = ("v2/", "v1/", "")
_PASSES = ("narration_pass_1", "narration_pass_2")


def read(root: pathlib.Path, split: str) -> Iterator[Listed]:
  """Yields the narrations of "all" videos, or of those of a benchmark's part, as "em_train"."""
  chosen = None if split == "all" else _videos_of(root, *split.split("_"))
  file = annotation(ABOUT, root, *(f"{v}annotations/narration.json" for v in _VERSIONS))
  content = object_of(read_json(file), str(file))
  videos = object_of(content.get("videos", content), str(file))
  for video, passes in videos.items():
    if chosen is None or video in chosen:
      yield from _narrations(video, object_of(passes, f"{file}, {video}"), f"{file}, {video}")


def _videos_of(root: pathlib.Path, benchmark: str, part: str) -> set[str]:
  file = annotation(ABOUT, root, "ego4d.json", "v2/ego4d.json", "v1/ego4d.json")
  rows = as_rows(object_of(read_json(file), str(file)).get("videos"), f"{file}, videos")
  return {r.text("video_uid") for r in rows if r.values.get(f"split_{benchmark}") == part}


def _narrations(video: str, passes: Mapping[str, Any], where: str) -> list[Listed]:
  found = []
  for name in _PASSES:
    entries = object_of(passes.get(name, {}), f"{where}, {name}").get("narrations", [])
    for row in as_rows(entries, f"{where}, {name}"):
      time = row.number("timestamp_sec")
      paths = [f"{version}full_scale/{video}" for version in _VERSIONS]
      text = row.values.get("narration_text")
      if not isinstance(text, str):
        raise ValueError(f"{row.where}: narration_text is a {type(text).__name__}, expected text.")
      times = max(0.0, time - HALF_S), time + HALF_S
      found.append(Listed(row.where, paths, (), *times, caption=text.strip()))
  return sorted(found, key=lambda listed: listed.stop_s)


SETS = (ClipSet("ego4d", ABOUT, SPLITS, read),)
