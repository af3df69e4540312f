"""Writes small TFRecord files and TFDS folders in the format of MOVi, with tracks of Kubric."""

import warnings

import numpy as np
from image_folders import encode
from video_files import picture


def movi(start, length, height=24, width=48, num_points=3):
  """Returns features by name; pictures carry `start`, `start` + 1, ..., and so do depth and flow."""
  grid = (length, height, width)
  number = (start + np.arange(length)).reshape(-1, 1, 1, 1)
  flow = np.concatenate([np.full((*grid, 1), 65535), np.full((*grid, 1), 0)], -1)
  return {
    "video": np.stack([picture(start + t, height, width) for t in range(length)]),
    "depth": np.broadcast_to(number * 1000, (*grid, 1)).astype(np.uint16),
    "forward_flow": flow.astype(np.uint16),  # rows: +3, columns: -1
    "backward_flow": flow[..., ::-1].astype(np.uint16),
    "segmentations": np.broadcast_to(number % 256, (*grid, 1)).astype(np.uint8),
    "metadata/depth_range": np.array([0.0, 6.5535], np.float32),
    "metadata/forward_flow_range": np.array([-1.0, 3.0], np.float32),
    "metadata/backward_flow_range": np.array([-1.0, 3.0], np.float32),
    "camera/positions": np.arange(length * 3, dtype=np.float32).reshape(length, 3),
    "camera/quaternions": np.tile(np.array([1, 0, 0, 0], np.float32), (length, 1)),
    "target_points": np.full((num_points, length, 2), 12.0, np.float32),
    "occluded": np.arange(num_points * length).reshape(num_points, length) % 2,
  }


def write_records(tf, path, clips, *, as_sequence=False, raw_video=False):
  """Writes a record for each clip: pictures as PNG, flow as numbers, as TFDS does."""

  def feature(values):
    if isinstance(values[0], bytes):
      return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))
    if isinstance(values[0], float):
      return tf.train.Feature(float_list=tf.train.FloatList(value=values))
    return tf.train.Feature(int64_list=tf.train.Int64List(value=values))

  with tf.io.TFRecordWriter(str(path)) as writer:
    for clip in clips:
      values, lists = {}, {}
      for name, array in clip.items():
        if name == "video" and raw_video:
          values[name] = [array.tobytes()]
          values["metadata/height"], values["metadata/width"] = ([n] for n in array.shape[1:3])
        elif name in ("video", "depth", "segmentations"):
          values[name] = [encode(a if name == "video" else a[..., 0]) for a in array]
        else:
          values[name] = array.ravel().tolist()
      if as_sequence:
        steps = [feature([png]) for png in values.pop("video")]
        lists["image/encoded"] = tf.train.FeatureList(feature=steps)
      context = tf.train.Features(feature={name: feature(v) for name, v in values.items()})
      example = tf.train.SequenceExample(
        context=context, feature_lists=tf.train.FeatureLists(feature_list=lists)
      )
      if not as_sequence:
        example = tf.train.Example(features=context)
      writer.write(example.SerializeToString())
  return path


def write_tfds(tfds, folder, clips):
  """Writes a TFDS folder whose split "train" has the clips, and returns it."""
  length, height, width = clips[0]["video"].shape[:3]
  grid = (height, width)

  def per_picture(feature):
    return tfds.features.Sequence(feature, length=length)

  image, tensor = tfds.features.Image, tfds.features.Tensor
  pair = tensor(shape=(2,), dtype=np.float32)
  features = tfds.features.FeaturesDict({
    "video": tfds.features.Video(shape=(length, *grid, 3)),
    "depth": per_picture(image(shape=(*grid, 1), dtype=np.uint16)),
    "segmentations": per_picture(image(shape=(*grid, 1), dtype=np.uint8)),
    "forward_flow": per_picture(tensor(shape=(*grid, 2), dtype=np.uint16)),
    "metadata": {"depth_range": pair, "forward_flow_range": pair},
  })  # fmt: skip

  class Tiny(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
      return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, dl_manager):
      return {"train": self._generate_examples()}

    def _generate_examples(self):
      for number, clip in enumerate(clips):
        flat = {name: clip[name] for name in features if name != "metadata"}
        ranges = {n: clip[f"metadata/{n}"] for n in ("depth_range", "forward_flow_range")}
        yield number, flat | {"metadata": ranges}

  with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    builder = Tiny(data_dir=str(folder))
    builder.download_and_prepare()
  return builder.data_path
