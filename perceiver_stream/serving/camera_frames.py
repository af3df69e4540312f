"""Images and sound that a browser sends: JPEG and PCM, decoded within a budget."""

import numpy as np
from jaxtyping import Float, UInt8

from perceiver_stream.files.image_headers import image_size
from perceiver_stream.serving.messages import MessageError
from perceiver_stream.utils.opencv import opencv

MAX_PIXELS = 2**22  # of an image before it is decoded: 4 million, 2560 x 1440 and some more
MAX_SCANS = 16  # of a progressive JPEG, each of which costs a pass over all pixels

_SCAN = b"\xff\xda"


def decode_jpeg(data: bytes, size: tuple[int, int]) -> UInt8[np.ndarray, "H W 3"]:
  """Returns the RGB image of a JPEG from anybody.

  Its size is read from the header before anything is decoded.

  Args:
    data: The file.
    size: Rows and columns that it must have.

  Raises:
    MessageError: It is no JPEG, of another size, damaged, or would cost too much to decode.
  """
  found = image_size(data) if data[:2] == b"\xff\xd8" else None
  if found is None:
    raise MessageError("image: it is no JPEG.")
  if found[0] * found[1] > MAX_PIXELS or found != size:
    raise MessageError(
      f"image: it has {found[0]} x {found[1]} pixels, expected {size[0]} x {size[1]}; scale "
      f"it before it is sent."
    )
  if data.count(_SCAN) > MAX_SCANS:
    raise MessageError(f"image: the JPEG has more than {MAX_SCANS} scans; send a baseline JPEG.")
  cv2 = opencv()
  try:
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
  except cv2.error as error:
    raise MessageError("image: the JPEG cannot be decoded.") from error
  if image is None or image.shape != (*size, 3):  # turned by its orientation
    raise MessageError("image: the JPEG cannot be decoded to the size that its header has.")
  return np.ascontiguousarray(image[..., ::-1])


def sound_of(pcm: np.ndarray, num_samples: int) -> Float[np.ndarray, " S"]:
  """Returns the newest samples of 16-bit PCM in [-1, 1], after silence where there are fewer.

  Raises:
    MessageError: It is not int16 `[S]`.
  """
  if pcm.dtype != np.int16 or pcm.ndim != 1:
    raise MessageError(f"camera: sound is {pcm.dtype} {list(pcm.shape)}, expected int16 [samples].")
  newest = pcm[max(0, len(pcm) - num_samples) :].astype(np.float32) / np.float32(32768)
  return np.concatenate([np.zeros(num_samples - len(newest), np.float32), newest])
