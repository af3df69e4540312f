"""Writes photos in tiles as phones store them: HEIF with a grid of HEVC pictures."""

import pathlib
import struct

import av
import numpy as np

from tests.support import ffmpeg_program


def write_grid(
  path: pathlib.Path,
  picture: np.ndarray,
  *,
  tile: int = 64,
  turns: int = 0,
  mirror: bool = False,
  aperture: tuple[int, ...] = (),
  others: int = 0,
  drop: int = 0,
) -> str:
  """Writes RGB `[H, W, 3]` in tiles of `tile` pixels, the last ones filled up.

  Args:
    turns: Quarter turns to the left that a reader has to make.
    mirror: Whether a reader has to mirror it.
    aperture: Clean aperture to cut out, 8 numbers.
    others: Further grids of the same tiles' size before which the photo comes, as depth maps are.
    drop: How many tiles are left out at the end.
  """
  height, width = picture.shape[:2]
  rows, columns = -(-height // tile), -(-width // tile)
  filled = np.zeros((rows * tile, columns * tile, 3), np.uint8)
  filled[:height, :width] = picture
  parts = [
    filled[y : y + tile, x : x + tile]
    for y in range(0, rows * tile, tile)
    for x in range(0, columns * tile, tile)
  ]
  setup, encoded = _hevc(parts, path.parent)
  tiles = encoded[: len(encoded) - drop]
  grids = [tiles] + [tiles] * others
  data, items, links, properties = b"", [], b"", []
  for number, each in enumerate(grids):
    first = 100 * number + 1
    for k, one in enumerate(each):
      items.append((first + k, b"hvc1", len(data), len(one)))
      data += one
      properties.append((first + k, [1, 2]))
    payload = struct.pack(">BBBBHH", 0, 0, rows - 1, columns - 1, width, height)
    items.append((first + 99, b"grid", len(data), len(payload)))
    data += payload
    properties.append((first + 99, [3, *[6] * bool(aperture), 4, *[5] * mirror]))
    ids = struct.pack(f">{len(each)}H", *range(first, first + len(each)))
    links += _box(b"dimg", struct.pack(">HH", first + 99, len(each)) + ids)
  common = [
    _box(b"hvcC", setup),
    _full(b"ispe", struct.pack(">II", tile, tile)),
    _full(b"ispe", struct.pack(">II", width, height)),
    _box(b"irot", bytes([turns])),
    _box(b"imir", b"\1"),
    *([_box(b"clap", struct.pack(">IIIIiIiI", *aperture))] if aperture else []),
  ]
  head = _box(b"ftyp", b"heic\0\0\0\0mif1heic")
  size = len(_meta(items, links, common, properties, 0))
  meta = _meta(items, links, common, properties, len(head) + size + 8)
  path.write_bytes(head + meta + _box(b"mdat", data))
  return str(path)


def _meta(items, links, common, properties, offset) -> bytes:
  names = b"".join(
    _full(b"infe", struct.pack(">HH4sB", number, 0, kind, 0), 2) for number, kind, *_ in items
  )
  places = b"".join(
    struct.pack(">HHHII", number, 0, 1, offset + at, length) for number, _, at, length in items
  )
  held = b"".join(
    struct.pack(">HB", number, len(which)) + bytes(0x80 | n for n in which)
    for number, which in properties
  )
  parts = (
    _full(b"hdlr", struct.pack(">I4s12x", 0, b"pict") + b"\0"),
    _full(b"pitm", struct.pack(">H", 100)),
    _full(b"iinf", struct.pack(">H", len(items)) + names),
    _full(b"iref", links),
    _box(
      b"iprp",
      _box(b"ipco", b"".join(common)) + _full(b"ipma", struct.pack(">I", len(properties)) + held),
    ),
    _full(b"iloc", struct.pack(">BBH", 0x44, 0, len(items)) + places),
  )
  return _full(b"meta", b"".join(parts))


def _box(name: bytes, body: bytes) -> bytes:
  return struct.pack(">I", len(body) + 8) + name + body


def _full(name: bytes, body: bytes, version: int = 0) -> bytes:
  return _box(name, bytes([version, 0, 0, 0]) + body)


def _hevc(parts: list[np.ndarray], folder: pathlib.Path) -> tuple[bytes, list[bytes]]:
  """Returns the decoder's set-up and the bytes of each picture, of RGB `[H, W, 3]` of one size."""
  raw, coded = folder / "tiles.rgb", folder / "tiles.mp4"
  raw.write_bytes(b"".join(part.tobytes() for part in parts))
  height, width = parts[0].shape[:2]
  form = ("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-i", raw)
  options = ("-x265-params", "keyint=1:log-level=none", "-crf", "4", "-pix_fmt", "yuv444p")
  ffmpeg_program.run(*form, "-c:v", "libx265", *options, "-tag:v", "hvc1", coded)
  with av.open(str(coded)) as file:
    packets = [bytes(packet) for packet in file.demux(video=0) if packet.size]
    return bytes(file.streams.video[0].codec_context.extradata or b""), packets
