"""Writes small folders in the published layouts of the data sets of clips.

`WRITERS[name](root, media)` writes one and returns its `Folder`. Media files are links to two files that
are made once: encoding is the expensive part.
"""

import json
import math
import os
import pathlib
import wave
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from video_files import sample_code, write_video

END = math.inf
FRAMES, RATE = 25, 25  # one second


class Media(NamedTuple):
  """A video of one second with sound, and one second of sound."""

  video: pathlib.Path
  sound: pathlib.Path


class Clip(NamedTuple):
  """The clip that a reader must give."""

  file: str
  start_s: float = 0.0
  stop_s: float = END
  labels: Mapping = {}
  caption: str = ""


class Folder(NamedTuple):
  """What is in a folder.

  Attributes:
    clips: By split.
    broken: File and a text with a line that cannot be used, and a part of the message.
    escaping: File and a text with a name that leads out of the folder; None if names are no paths.
  """

  clips: dict[str, list[Clip]]
  broken: tuple[str, str, str] | None
  escaping: tuple[str, str] | None


def make_media(folder: pathlib.Path) -> Media:
  video = folder / "second.mkv"
  write_video(video, num=FRAMES, fps=RATE, height=24, width=48, gop=5)
  sound = folder / "second.wav"
  with wave.open(str(sound), "wb") as file:
    file.setnchannels(1)
    file.setsampwidth(2)
    file.setframerate(16000)
    file.writeframes((sample_code(np.arange(16000)) * 32768).astype("<i2").tobytes())
  return Media(video, sound)


def _put(root, name, source):
  path = root / name
  path.parent.mkdir(parents=True, exist_ok=True)
  if not path.exists():
    os.link(source, path)


def text(root, name, content):
  path = root / name
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(content if isinstance(content, str) else json.dumps(content))


def _fill(root, media, clips):
  for name in {clip.file for split in clips.values() for clip in split}:
    _put(root, name, media.sound if name.endswith(".wav") else media.video)


def _label(number):
  return {"label": () if number is None else (number,)}


def ucf101(root, media):
  eye, yoyo = "UCF-101/ApplyEyeMakeup/v_ApplyEyeMakeup", "UCF-101/YoYo/v_YoYo"
  lists = "ucfTrainTestlist"
  text(root, f"{lists}/classInd.txt", "1 ApplyEyeMakeup\r\n101 YoYo\r\n\r\n")
  for fold, (train, test) in enumerate((("08", "01"), ("01", "08"), ("01", "08")), 1):
    lines = (
      f"ApplyEyeMakeup/v_ApplyEyeMakeup_g{train}_c01.avi 1\nYoYo/v_YoYo_g{train}_c01.avi 101\n"
    )
    text(root, f"{lists}/trainlist0{fold}.txt", lines)
    text(root, f"{lists}/testlist0{fold}.txt", f"YoYo/v_YoYo_g{test}_c01.avi\n")
  both = lambda group: [  # noqa: E731
    Clip(f"{eye}_g{group}_c01.avi", labels=_label(0)), Clip(f"{yoyo}_g{group}_c01.avi", labels=_label(100)),
  ]  # fmt: skip
  clips = {f"train{fold}": both("08" if fold == 1 else "01") for fold in (1, 2, 3)}
  clips |= {f"test{fold}": both("01" if fold == 1 else "08")[1:] for fold in (1, 2, 3)}
  _fill(root, media, clips)
  file = f"{lists}/trainlist01.txt"
  return Folder(
    clips,
    (file, "\nSwimming/v.avi 7\n", "line 2: 'Swimming/v.avi'"),
    (file, "YoYo/../../../x.avi 1\n"),
  )


def hmdb51(root, media):
  lists, odd = "testTrainMulti_7030_splits", "a #b (c) n"  # as some names are
  names = {"brush_hair": ("one", "two"), "wave": (odd, "four")}
  for fold in (1, 2, 3):
    for action, (train, test) in names.items():
      lines = f"{train}.avi 1 \n{test}.avi 2 \nunused.avi 0 \n"
      text(root, f"{lists}/{action}_test_split{fold}.txt", lines)
  clip = lambda n, action, at: Clip(  # noqa: E731
    f"hmdb51_org/{action}/{names[action][at]}.avi", labels=_label(n)
  )
  clips = {
    f"{kind}{fold}": [clip(n, action, at) for n, action in enumerate(names)]
    for at, kind in enumerate(("train", "test"))
    for fold in (1, 2, 3)
  }
  _fill(root, media, clips)
  file = f"{lists}/wave_test_split1.txt"
  return Folder(
    clips, (file, "x.avi 1\ny.avi 3\n", "line 2: 'y.avi 3'"), (file, "../../../x.avi 1")
  )


def kinetics400(root, media):
  head = "label,youtube_id,time_start,time_end,split,is_cc\n"
  rows = 'abseiling,-3B32lodo2M,59,69,train,0\n"zumba",aaaaaaaaaaa,0,0.6,train,0\n'
  text(root, "annotations/train.csv", head + rows)
  text(root, "annotations/val.csv", head + "zumba,_dbcJuKJQNs,40,50,val,0\n")
  text(root, "annotations/test.csv", "youtube_id,time_start,time_end,split\nbbbbbbbbbbb,1,2,test\n")
  clips = {
    "train": [
      Clip("train/-3B32lodo2M_000059_000069.mp4", labels=_label(0)),
      Clip("train/aaaaaaaaaaa.mp4", 0.0, 0.6, _label(1)),  # a whole video
    ],
    "val": [Clip("validate/zumba/_dbcJuKJQNs_000040_000050.mp4", labels=_label(1))],
    "test": [Clip("test/bbbbbbbbbbb_000001_000002.mp4", labels=_label(None))],
  }
  _fill(root, media, clips)
  file = "annotations/train.csv"
  broken = head + "abseiling,-3B32lodo2M,69,59,train,0\n"
  return Folder(
    clips, (file, broken, "line 2: it starts at 69.0 s and stops at 59.0 s"),
    (file, head + "abseiling,../../x,0,1,train,0\n"),
  )  # fmt: skip


def something_v2(root, media):
  template = "Pushing [something] so that it falls"
  text(root, "labels/labels.json", {"Pushing something so that it falls": "173", "Hitting": "0"})
  entry = {"id": "1", "label": "pushing a cup so that it falls", "template": template}
  other = {"id": "2", "label": "hitting", "template": "Hitting", "placeholders": []}
  text(root, "labels/train.json", [entry, other])
  text(root, "labels/validation.json", [{**other, "id": "3"}])
  text(root, "labels/test.json", [{"id": "4"}])
  path = "20bn-something-something-v2/{}.webm".format
  clips = {
    "train": [
      Clip(path(1), labels=_label(173), caption=entry["label"]),
      Clip(path(2), labels=_label(0), caption="hitting"),
    ],
    "validation": [Clip(path(3), labels=_label(0), caption="hitting")],
    "test": [Clip(path(4), labels=_label(None))],
  }
  _fill(root, media, clips)
  broken = json.dumps([entry, {**other, "template": "Flying"}])
  escaping = json.dumps([{**entry, "id": "../../x"}])
  return Folder(
    clips,
    ("labels/train.json", broken, "entry 1: template 'Flying'"),
    ("labels/train.json", escaping),
  )


def esc50(root, media):
  head = "filename,fold,target,category,esc10,src_file,take\n"
  rows = [(1, 0, "1-1-A-0.wav"), (2, 49, "2-1-A-49.wav"), (5, 7, "5-1-B-7.wav")]
  text(root, "meta/esc50.csv", head + "".join(f"{n},{f},{t},x,True,1,A\n" for f, t, n in rows))
  make = lambda keep: [Clip(f"audio/{n}", labels=_label(t)) for f, t, n in rows if keep(f)]  # noqa: E731
  clips = {"all": make(lambda f: True)}
  for fold in (1, 2, 5):
    clips |= {
      f"test{fold}": make(lambda f, k=fold: f == k),
      f"train{fold}": make(lambda f, k=fold: f != k),
    }
  _fill(root, media, clips)
  return Folder(
    clips, ("meta/esc50.csv", head + "a.wav,6,1,x,True,1,A\n", "line 2: fold is '6'"),
    ("meta/esc50.csv", head + "../../x.wav,1,1,x,True,1,A\n"),
  )  # fmt: skip


def audioset(root, media):
  text(
    root,
    "class_labels_indices.csv",
    'index,mid,display_name\n0,/m/09x0r,"Speech"\n526,/t/dd00,"A, b"\n',
  )
  head = (
    "# Segments csv created\n# num_ytids=2\n# YTID, start_seconds, end_seconds, positive_labels\n"
  )
  text(root, "balanced_train_segments.csv",
       head + '--PJHxphWEs, 30.000, 40.000, "/m/09x0r,/t/dd00"\nabcdefghijk, 0.200, 0.600, "/t/dd00"\n')  # fmt: skip
  text(root, "unbalanced_train_segments.csv", head + 'bbbbbbbbbbb, 0.000, 10.000, "/m/09x0r"\n')
  text(root, "eval_segments.csv", head + 'ccccccccccc, 5.000, 15.000, "/t/dd00"\n')
  clips = {
    "balanced_train": [
      Clip("balanced_train_segments/--PJHxphWEs_30000_40000.mp4", labels={"label": (0, 526)}),
      Clip("balanced_train_segments/video/abcdefghijk.mp4", 0.2, 0.6, {"label": (526,)}),
    ],
    "unbalanced_train": [Clip("unbalanced_train_segments/Ybbbbbbbbbbb.wav", labels=_label(0))],
    "eval": [Clip("eval_segments/ccccccccccc_000005.mp4", labels=_label(526))],
  }
  _fill(root, media, clips)
  file = "balanced_train_segments.csv"
  return Folder(
    clips, (file, head + 'a, 0, 1, "/m/nothing"\n', "line 4: '/m/nothing' is not in"),
    (file, head + '../x, 0, 1, "/t/dd00"\n'),
  )  # fmt: skip


def vggsound(root, media):
  rows = '---g-f_I2yQ,0.2,"people, marching",train\n--0PQM4-hqg,30,waterfall burbling,train\n'
  text(root, "vggsound.csv", rows + "FwVYUHKoLtQ,34,waterfall burbling,test\n")
  clips = {
    "train": [
      Clip("video/---g-f_I2yQ.mp4", 0.2, 10.2, _label(0)),
      Clip("video/--0PQM4-hqg_000030.mp4", labels=_label(1)),
    ],
    "test": [Clip("video/FwVYUHKoLtQ_000034.mp4", labels=_label(1))],
  }
  _fill(root, media, clips)
  return Folder(
    clips, ("vggsound.csv", rows + "a,nan,b,train\n", "line 3: start is 'nan'"),
    ("vggsound.csv", "../../x,0,b,train\n"),
  )  # fmt: skip


def ave(root, media):
  head = "Category&VideoID&Quality&StartTime&EndTime\n"
  train = "Church bell&RUhOCu3LNXM&good&0&0.4\nBus&abc&good&0&0\nBus&0123456789a&good&0.2&1\n"
  valid, test = "Bus&vvv&good&0&10\n", "Church bell&ttt&good&0&10\n"
  text(root, "Annotations.txt", head + train + valid + test)
  for name, rows in (("train", train), ("val", valid), ("test", test)):
    text(root, f"{name}Set.txt", rows)
  clips = {
    "train": [
      Clip("AVE/RUhOCu3LNXM.mp4", 0.0, 0.4, _label(1)),
      Clip("AVE/0123456789a.mp4", 0.2, 1.0, _label(0)),
    ],
    "val": [Clip("AVE/vvv.mp4", 0.0, 10.0, _label(0))],
    "test": [Clip("AVE/ttt.mp4", 0.0, 10.0, _label(1))],
  }
  _fill(root, media, clips)
  return Folder(
    clips, ("trainSet.txt", "Bus&a&good&3&2\n", "line 1: it starts at 3.0 s"),
    ("trainSet.txt", "Bus&../x&good&0&2\n"),
  )  # fmt: skip


def howto100m(root, media):
  head = "video_id,category_1,category_2,rank,task_id\n"
  row = "nVbIUDjzWY4,Cars & Other Vehicles,Motorcycles,27,52907\n"
  text(root, "HowTo100M_v1.csv", head + row + "withoutcaps,Food,Drinks,6,25938\n")
  captions = "howto100m_captions/nVbIUDjzWY4.csv"
  text(root, captions, 'start,end,text\n0.0,0.4,"so, first"\n3,3,um\n0.2,1.0,the engine\n')
  file = "videos/nVbIUDjzWY4.webm"
  clips = {"all": [Clip(file, 0.0, 0.4, {}, "so, first"), Clip(file, 0.2, 1.0, {}, "the engine")]}
  _fill(root, media, clips)
  broken = "start,end,text\n0,1,a\n1,inf,b\n"
  return Folder(
    clips,
    (captions, broken, "line 3: end is 'inf'"),
    ("HowTo100M_v1.csv", head + "../../x,a,b,1,1\n"),
  )


def walking_tours(root, media):
  clips = {"all": [Clip("amsterdam.mp4"), Clip("venice.mp4")]}
  _fill(root, media, clips)
  return Folder(clips, None, None)


def ego4d(root, media):
  videos = [{"video_uid": "u-1", "split_em": "train"}, {"video_uid": "u-2", "split_em": "val"}]
  text(root, "ego4d.json", {"videos": [{"split_av": None, "split_fho": None} | v for v in videos]})
  note = lambda time, words: {"timestamp_sec": time, "narration_text": words}  # noqa: E731
  content = {
    "u-1": {
      "narration_pass_1": {"narrations": [note(0.5, "#C C opens"), note(1.25, "#C C looks")]},
      "narration_pass_2": {"narrations": [note(0.75, "#C C waits")], "summaries": []},
    },
    "u-2": {"status": "redacted"},
    "u-3": {"narration_pass_1": {"narrations": [note(0.0, "#O talks"), note(0.5, " ")]}},
  }
  text(root, "v2/annotations/narration.json", {"version": "v2", "videos": content})
  one, three = "v2/full_scale/u-1.mp4", "v2/full_scale/u-3.mp4"
  train = [
    Clip(one, 0.0, 1.5, {}, "#C C opens"),
    Clip(one, 0.0, 1.75, {}, "#C C waits"),
    Clip(one, 0.25, 2.25, {}, "#C C looks"),
  ]
  more = [Clip(three, 0.0, 1.0, {}, "#O talks"), Clip(three, 0.0, 1.5)]
  clips = {"all": [*train, *more], "em_train": train}
  _fill(root, media, clips)
  broken = {"u-1": {"narration_pass_1": {"narrations": [note(1, "a"), note(-1, "b")]}}}
  escaping = {"../x": {"narration_pass_1": {"narrations": [note(1, "a")]}}}
  file = "v2/annotations/narration.json"
  return Folder(
    clips, (file, json.dumps(broken), "narration_pass_1, entry 1: timestamp_sec is -1"),
    (file, json.dumps(escaping)),
  )  # fmt: skip


def epic_kitchens(root, media):
  folder = "epic-kitchens-100-annotations"
  head = "narration_id,participant_id,video_id,narration_timestamp,start_timestamp,stop_timestamp,start_frame,stop_frame"
  more = ",narration,verb,verb_class,noun,noun_class,all_nouns,all_noun_classes\n"
  row = "P01_01_0,P01,P01_01,00:00:01.089,00:00:00.20,00:00:00.60,8,202,open door,open,3,door,299,['door'],[3]\n"
  text(root, f"{folder}/EPIC_100_train.csv", head + more + row)
  text(root, f"{folder}/EPIC_100_validation.csv", head + more + row.replace("P01_01", "P01_11"))
  times = head + "\nP02_1_0,P02,P02_1,00:00:02.851,00:01:02.86,01:00:03.87,1,2\n"
  text(root, f"{folder}/EPIC_100_test_timestamps.csv", times)
  labels = {"verb": (3,), "noun": (299,)}
  clips = {
    "train": [Clip("P01/videos/P01_01.MP4", 0.2, 0.6, labels, "open door")],
    "validation": [Clip("P01/videos/P01_11.MP4", 0.2, 0.6, labels, "open door")],
    "test": [Clip("P02/videos/P02_1.MP4", 62.86, 3603.87, {"verb": (), "noun": ()})],
  }
  _fill(root, media, clips)
  file = f"{folder}/EPIC_100_train.csv"
  return Folder(
    clips, (file, head + more + row.replace(",3,door", ",97,door"), "line 2: verb_class is '97'"),
    (file, head + more + row.replace(",P01,", ",../..,")),
  )  # fmt: skip


def bdd100k(root, media):
  values = {"weather": "foggy", "scene": "tunnel", "timeofday": "dawn/dusk"}
  entry = {"name": "0000f77c-6257be58.jpg", "attributes": values, "timestamp": 10000, "labels": []}
  text(root, "labels/det_20/det_train.json", [entry])
  other = {"weather": "rainy", "scene": "highway", "timeofday": "undefined"}
  text(root, "labels/det_20/det_val.json", [{"name": "b1c66a42-6f7d68ca.jpg", "attributes": other}])
  numbers = lambda *n: dict(zip(values, [(k,) for k in n], strict=True))  # noqa: E731
  clips = {
    "train": [Clip("videos/train/0000f77c-6257be58.mov", labels=numbers(6, 0, 2))],
    "val": [Clip("videos/val/b1c66a42-6f7d68ca.mov", labels=numbers(0, 6, 3))],
    "test": [Clip("videos/test/cabc30fc.mov", labels=dict.fromkeys(values, ()))],
  }
  _fill(root, media, clips)
  file = "labels/det_20/det_train.json"
  broken = json.dumps([entry, {**entry, "attributes": {**values, "scene": "moon"}}])
  escaping = json.dumps([{**entry, "name": "../../../x.jpg"}])
  return Folder(clips, (file, broken, "entry 1: scene is 'moon'"), (file, escaping))


WRITERS: dict[str, Callable[[pathlib.Path, Media], Folder]] = {
  "ucf101": ucf101,
  "hmdb51": hmdb51,
  "kinetics400": kinetics400,
  "kinetics600": kinetics400,
  "kinetics700": kinetics400,
  "something_v2": something_v2,
  "esc50": esc50,
  "audioset": audioset,
  "vggsound": vggsound,
  "ave": ave,
  "howto100m": howto100m,
  "walking_tours": walking_tours,
  "ego4d": ego4d,
  "epic_kitchens": epic_kitchens,
  "bdd100k": bdd100k,
}
