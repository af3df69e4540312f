"""Writes small recordings of robots with the writers of the field: `mcap` and `rosbags`.

Images carry their number as bars (`video_files.picture`). By default there is one every 40 ms, IMU
data every 10 ms and joint states every 100 ms; times are those at which messages were recorded.
"""

import functools
from fractions import Fraction

import av
import numpy as np
from image_folders import encode, raw_depth
from video_files import picture

START_NS = 1_700_000_000_000_000_000
HEIGHT, WIDTH = 24, 48
IMAGE, IMU, JOINTS, TEXT = (
  f"{package}/msg/{name}"
  for package, name in (
    ("sensor_msgs", "CompressedImage"),
    ("sensor_msgs", "Imu"),
    ("sensor_msgs", "JointState"),
    ("std_msgs", "String"),
  )
)
VIDEO = "foxglove_msgs/msg/CompressedVideo"
RAW = "sensor_msgs/msg/Image"
_VIDEO_TEXT = "builtin_interfaces/Time timestamp\nstring frame_id\nuint8[] data\nstring format\n"


@functools.cache
def store(ros1=False):
  """Returns the types of ROS, with Foxglove's video."""
  from rosbags.typesys import Stores, get_types_from_msg, get_typestore

  found = get_typestore(Stores.ROS1_NOETIC if ros1 else Stores.ROS2_HUMBLE)
  found.register(get_types_from_msg(_VIDEO_TEXT, VIDEO))
  return found


def make(kind, /, **fields):
  return store().types[kind](**fields)


def header(number=0):
  time = make("builtin_interfaces/msg/Time", sec=number, nanosec=5)
  return make("std_msgs/msg/Header", stamp=time, frame_id="camera")


def bytes_of(data):
  return np.frombuffer(data, np.uint8)


def image(number):
  return make(
    IMAGE, header=header(), format="png", data=bytes_of(encode(picture(number, HEIGHT, WIDTH)))
  )


def raw(array, encoding, big=False, pad=0):
  """Returns an Image of an array; rows are followed by `pad` bytes."""
  array = array.astype(array.dtype.newbyteorder(">" if big else "<"))
  rows = array.reshape(len(array), -1).view(np.uint8)
  rows = np.pad(rows, ((0, 0), (0, pad)), constant_values=77)
  fields = {"height": array.shape[0], "width": array.shape[1], "encoding": encoding}
  fields |= {"is_bigendian": int(big), "step": rows.shape[1], "data": rows.ravel()}
  return make(RAW, header=header(), **fields)


def depth(number):
  return raw(raw_depth(number), "16UC1")


def vector(values):
  return make("geometry_msgs/msg/Vector3", **dict(zip("xyz", map(float, values), strict=True)))


def imu(number):
  return make(
    IMU,
    header=header(),
    orientation=make("geometry_msgs/msg/Quaternion", x=0.0, y=0.0, z=0.0, w=1.0),
    orientation_covariance=np.zeros(9),
    angular_velocity=vector([number, 0.25, -0.5]),
    angular_velocity_covariance=np.zeros(9),
    linear_acceleration=vector([0, 2 * 9.80665, -9.80665]),
    linear_acceleration_covariance=np.zeros(9),
  )


def joints(number, names=("hip", "knee"), velocities=True):
  positions = np.array([number + 0.5 * at for at in range(len(names))])
  velocity = -positions if velocities else np.zeros(0)
  fields = {"position": positions, "velocity": velocity, "effort": np.zeros(0)}
  return make(JOINTS, header=header(), name=list(names), **fields)


def walk(num=14):
  """Returns `(topic, type, time in ns, message)` of a short recording, in the order of time."""
  end = num * 40
  found = [("/camera", IMAGE, 40 * n, image(n)) for n in range(num)]
  found += [("/imu", IMU, 10 * n, imu(n)) for n in range(end // 10)]
  found += [("/joints", JOINTS, 100 * n, joints(n)) for n in range(-(-end // 100))]
  found.append(("/say", TEXT, 0, make(TEXT, data="hello")))
  found.sort(key=lambda entry: entry[2])
  return [(topic, kind, START_NS + ms * 10**6, message) for topic, kind, ms, message in found]


def write_mcap(path, entries, *, packing="ZSTD", chunk=2000, index=True, use_chunking=True):
  """Writes an MCAP file; an entry may have bytes instead of a message, and its encoding last."""
  from mcap.writer import CompressionType, IndexType, Writer

  with open(path, "wb") as file:
    writer = Writer(
      file,
      chunk_size=chunk,
      compression=CompressionType[packing],
      index_types=IndexType.ALL if index else IndexType.NONE,
      use_chunking=use_chunking,
    )
    writer.start(profile="ros2")
    channels = {}
    for topic, kind, time_ns, message, *encoding in entries:
      if topic not in channels:
        schema = writer.register_schema(kind, "ros2msg", b"string data")
        channels[topic] = writer.register_channel(topic, (encoding or ["cdr"])[0], schema)
      data = message if isinstance(message, bytes) else store().serialize_cdr(message, kind)
      writer.add_message(channels[topic], time_ns, bytes(data), time_ns)
    writer.finish()
  return path


def write_bag(folder, entries, storage="SQLITE3"):
  """Writes a ROS 2 bag."""
  from rosbags.rosbag2 import StoragePlugin, Writer

  with Writer(folder, version=9, storage_plugin=StoragePlugin[storage]) as writer:
    connections = {}
    for topic, kind, time_ns, message in entries:
      if topic not in connections:
        connections[topic] = writer.add_connection(topic, kind, typestore=store())
      writer.write(connections[topic], time_ns, store().serialize_cdr(message, kind))
  return folder


def write_ros1(path, entries):
  """Writes a bag of ROS 1."""
  from rosbags.rosbag1 import Writer

  old = store(ros1=True)
  with Writer(path) as writer:
    connections = {}
    for topic, kind, time_ns, message in entries:
      if topic not in connections:
        connections[topic] = writer.add_connection(topic, kind, typestore=old)
      data = store().cdr_to_ros1(store().serialize_cdr(message, kind), kind)
      writer.write(connections[topic], time_ns, bytes(data))
  return path


def video_messages(num, codec="libx264", gop=5, **options):
  """Returns the frames of a video in Annex B, one by one, without B frames."""
  context = av.CodecContext.create(codec, "w")
  context.width, context.height, context.pix_fmt = WIDTH * 2, HEIGHT * 2, "yuv420p"
  context.time_base, context.gop_size = Fraction(1, 25), gop
  context.options = {"preset": "ultrafast", "bf": "0", **options}
  frames = [av.VideoFrame.from_ndarray(picture(n, HEIGHT * 2, WIDTH * 2)) for n in range(num)]
  for number, frame in enumerate(frames):
    frame.pts = number
  encoded = [bytes(p) for f in [*frames, None] for p in context.encode(f)]
  name = {"libx264": "h264", "libx265": "h265"}[codec]
  stamp = header().stamp
  return [
    make(VIDEO, timestamp=stamp, frame_id="camera", data=bytes_of(data), format=name)
    for data in encoded
  ]
