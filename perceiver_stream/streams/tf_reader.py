"""Records of TFRecord files and TFDS folders, one after the other, as arrays by feature name."""

import re
from typing import Any

import numpy as np

from perceiver_stream.streams.clips import OPTIONAL
from perceiver_stream.streams.damage import DamagedError
from perceiver_stream.utils.optional import require


class Reader:
  """Reads records with TensorFlow."""

  def __init__(self, files: tuple[str, ...], folder: str, split: str, names: tuple[str, ...]):
    """Opens files, or without any a TFDS folder.

    Raises:
      ImportError: TensorFlow is not installed; the message names the extra.
      ValueError: The folder has no such split.
    """
    self._tf = require("tensorflow", "tf")
    self._names = (*names, *OPTIONAL)
    self._files = list(files)
    self._features: Any = None
    if not files:
      builder = require("tensorflow_datasets", "tf").builder_from_directory(folder)
      splits = builder.info.splits
      if split not in splits:
        raise ValueError(f"tfrecord: split={split!r} of {folder}; use one of {list(splits)}.")
      self._files = [str(path) for path in splits[split].filepaths]
      self._features = builder.info.features

  def records(self, row: int, num_rows: int, skip: int) -> Any:
    """Returns an iterator over the serialised records of a row."""
    dataset = self._tf.data.TFRecordDataset(self._files)
    return dataset.shard(num_rows, row).skip(skip).as_numpy_iterator()

  def read(self, records: Any, where: str) -> dict[str, np.ndarray] | None:
    """Returns the next record's features by name; None at the end.

    Raises:
      DamagedError: It cannot be read.
    """
    errors, DecodeError = self._tf.errors, require("google.protobuf.message", "tf").DecodeError
    try:
      record = next(records, None)
      if record is None:
        return None
      return self._parsed(record) if self._features is None else self._deserialised(record)
    except (errors.DataLossError, errors.InvalidArgumentError, DecodeError, ValueError) as error:
      reason = re.sub(r"\{\{.*?\}\} ?| ?\[Op:.*", "", str(error).partition("\n")[0])
      raise DamagedError(f"{where} is damaged: {reason}.") from error

  def _deserialised(self, record: bytes) -> dict[str, np.ndarray]:
    flat: dict[str, Any] = {}

    def flatten(value: Any, name: str) -> None:
      if isinstance(value, dict):
        for key, inner in value.items():
          flatten(inner, f"{name}/{key}" if name else key)
      elif name in self._names:
        flat[name] = value.numpy()

    flatten(self._features.deserialize_example(record), "")
    return flat

  def _parsed(self, record: bytes) -> dict[str, np.ndarray]:
    # An Example is, byte for byte, a SequenceExample without lists.
    example = self._tf.train.SequenceExample.FromString(record)
    raw: dict[str, Any] = {name: _values(f) for name, f in example.context.feature.items()}
    for name, steps in example.feature_lists.feature_list.items():
      raw[name] = [value for step in steps.feature for value in _values(step)]
    raw = {name: value for name, value in raw.items() if len(value)}
    if "image/encoded" in raw:  # the usual name in SequenceExamples
      raw.setdefault("video", raw["image/encoded"])
    if "video" not in raw:
      raise ValueError(f"there is no feature 'video' among {sorted(raw)}")
    size = [
      int(raw[f"metadata/{side}"][0]) for side in ("height", "width") if f"metadata/{side}" in raw
    ]
    video = self._shaped(raw["video"], (-1, *size, 3))
    length, height, width = video.shape[:3]
    grid = (length, height, width)
    shapes = {"depth": (*grid, 1), "segmentations": (*grid, 1), "forward_flow": (*grid, 2)}
    shapes |= {
      "backward_flow": (*grid, 2),
      "target_points": (-1, length, 2),
      "occluded": (-1, length),
    }
    shapes |= {"camera/positions": (length, 3), "camera/quaternions": (length, 4)}
    shapes |= {name: () for name in OPTIONAL}
    names = [name for name in self._names if name in raw and name != "video"]
    return {"video": video} | {n: self._shaped(raw[n], shapes.get(n, (-1,))) for n in names}

  def _shaped(self, values: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Returns numbers, encoded images, or raw bytes as an array."""
    if not isinstance(values[0], bytes):
      return np.asarray(values).reshape(shape)
    if values[0][:4] == b"\x89PNG":
      dtype = self._tf.uint16 if values[0][24] == 16 else self._tf.uint8
      return np.stack([self._tf.io.decode_png(v, dtype=dtype).numpy() for v in values])
    if values[0][:2] == b"\xff\xd8":
      return np.stack([self._tf.io.decode_jpeg(v).numpy() for v in values])
    data = b"".join(values)
    count = abs(int(np.prod(shape)))  # of one tick where the length is open, else of all
    wide = len(data) % (2 * count) == 0 and len(data) // count >= 2 and shape[0] != -1
    return np.frombuffer(data, np.uint16 if wide else np.uint8).reshape(shape)


def _values(feature: Any) -> Any:
  kind = feature.WhichOneof("kind")
  return [] if kind is None else list(getattr(feature, kind).value)
