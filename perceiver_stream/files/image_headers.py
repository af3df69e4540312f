"""Size of a JPEG or PNG image from its first bytes, before a decoder allocates memory for it.

Sources: ITU-T T.81, B.1 and B.2 (markers, frame headers); the PNG specification, 11.2.2 (IHDR).
"""

import struct

_PNG = b"\x89PNG\r\n\x1a\n"
_NO_LENGTH = {0x01, *range(0xD0, 0xD9)}  # markers without a length
_NO_FRAME = {0xC4, 0xC8, 0xCC}  # of 0xC0 to 0xCF, those that do not start a frame
_SCAN, _END = 0xDA, 0xD9


def image_size(data: bytes) -> tuple[int, int] | None:
  """Returns rows and columns; None if the data are neither JPEG nor PNG, or are truncated."""
  if data[:8] == _PNG and data[12:16] == b"IHDR" and len(data) >= 24:
    width, height = struct.unpack(">II", data[16:24])
    return height, width
  return _jpeg_size(data) if data[:2] == b"\xff\xd8" else None


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
  at = 2
  while 0 <= (at := data.find(b"\xff", at)) < len(data) - 9:
    marker = data[at + 1]
    at += 1
    if marker in (0x00, 0xFF):  # no marker, or padding before one
      continue
    if marker in (_SCAN, _END):
      return None
    at += 1
    if 0xC0 <= marker <= 0xCF and marker not in _NO_FRAME:
      return struct.unpack(">HH", data[at + 3 : at + 7])
    if marker not in _NO_LENGTH:
      at += int.from_bytes(data[at : at + 2], "big")
  return None
