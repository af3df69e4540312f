"""What a container or a decoder states of how frames are shown, where it is odd or changes."""

import numbers
from fractions import Fraction
from types import SimpleNamespace

import av
import av.filter
import numpy as np
import pytest

from perceiver_stream.streams.aspects import Aspects
from perceiver_stream.streams.damage import DamagedError
from perceiver_stream.streams.image_files import scaled_size
from perceiver_stream.streams.margins import Margins
from perceiver_stream.streams.picker import Picker, shown_size


def frame(height=48, width=96, form="yuv420p", value=100):
  grey = np.full((height, width, 3), value, np.uint8)
  return av.VideoFrame.from_ndarray(grey, format="rgb24").reformat(format=form)


class Decoder:
  """A track whose decoder states an aspect with each packet, and gives frames out one later."""

  def __init__(self, stated, aspects):
    self.sample_aspect_ratio = stated
    self.codec_context = SimpleNamespace(sample_aspect_ratio=aspects[0])
    self.aspects = aspects

  def decoded(self):
    watched, found = Aspects(self), []
    packets = [SimpleNamespace(pts=number) for number in range(len(self.aspects))]
    for packet in watched.watch(iter(packets)):
      self.codec_context.sample_aspect_ratio = self.aspects[packet.pts]
      if packet.pts:
        found.append(watched.of(SimpleNamespace(pts=packet.pts - 1)))
    return [*found, watched.of(SimpleNamespace(pts=len(packets) - 1))]


WIDE, TALL = Fraction(16, 11), Fraction(2, 3)


@pytest.mark.parametrize(
  ("stated", "aspects", "shown"),
  [
    (WIDE, [WIDE] * 4, [WIDE] * 4),
    (WIDE, [WIDE, WIDE, TALL, TALL, WIDE], [WIDE, WIDE, TALL, TALL, WIDE]),  # the codec's
    (Fraction(2), [WIDE, WIDE, TALL], [2, 2, 2]),  # the container's
    (None, [None, None], [1, 1]),
    (None, [None, WIDE, WIDE], [1, WIDE, WIDE]),
    (Fraction(1000), [Fraction(1000)] * 2, [1, 1]),  # of no screen
  ],
)
def test_each_frame_has_the_aspect_of_its_packet(stated, aspects, shown):
  assert Decoder(stated, aspects).decoded() == shown


class Ratio:
  """A rational number that is no `Fraction`, as in PyAV 19."""

  def __init__(self, value):
    self.numerator, self.denominator = value.numerator, value.denominator

  def __eq__(self, other):
    return (self.numerator, self.denominator) == (other.numerator, other.denominator)

  def __bool__(self):
    return self.numerator != 0


numbers.Rational.register(Ratio)


def test_aspects_may_be_rationals_of_any_type():
  wide, tall, unknown = Ratio(WIDE), Ratio(TALL), Ratio(Fraction(0))
  assert Decoder(wide, [wide, wide, tall]).decoded() == [WIDE, WIDE, TALL]
  assert Decoder(unknown, [unknown, wide]).decoded() == [1, WIDE]


@pytest.mark.parametrize("size", [(64, 64), (31, 7), (7, 31), (200, 100)], ids=str)
@pytest.mark.parametrize("form", ["yuv420p", "yuv444p10le", "rgb24", "gray", "nv12", "pal8"])
def test_pictures_of_any_kind_of_frame(size, form):
  source = frame(form="rgb24" if form == "pal8" else form)
  if form == "pal8":
    source = av.VideoFrame(96, 48, "pal8")
    for plane, value in zip(source.planes, (0, 100), strict=False):
      plane.update(bytes([value]) * plane.buffer_size)
  for crop in ("centre", "squash"):
    picture = Picker(*size, crop)(source)
    assert picture.shape == (*size, 3) and picture.dtype == np.uint8
    assert not picture.flags.writeable
    assert np.abs(picture.astype(int) - 100).max() <= 3


@pytest.mark.parametrize("aspect", [1, WIDE, TALL])
def test_the_middle_is_cut_out_of_what_depth_is_cut_from(aspect):
  """`scaled_size`, by which depth is read, is the size that `Picker` scales to."""
  for source, size in (((48, 96), (31, 17)), ((33, 64), (64, 64)), ((480, 640), (64, 48))):
    full = Picker(*size, "centre")._full_size(frame(*source), *size, 1)
    assert full == scaled_size(source, size, "centre")
    rows, columns = Picker(*size, "centre")._full_size(frame(*source), *size, aspect)
    assert rows >= size[0] and columns >= size[1]
    assert abs(columns / rows / (source[1] / source[0] * aspect) - 1) < 0.05


def test_frames_that_change_size_and_form_midway():
  picker = Picker(32, 32, "squash")
  for form, height, width in (("yuv420p", 48, 96), ("yuv444p", 48, 96), ("yuv420p", 50, 30)):
    for value in (40, 200):
      assert np.abs(picker(frame(height, width, form, value)).astype(int) - value).max() <= 3


@pytest.mark.parametrize("side", [1, 2, 3])
def test_frames_too_small_to_deinterlace(side):
  graph = av.filter.Graph()
  source = graph.add_buffer(width=8, height=side, format="yuv444p", time_base=Fraction(1, 25))
  graph.link_nodes(source, graph.add("setfield", "tff"), graph.add("buffersink")).configure()
  graph.push(frame(side, 8, "yuv444p"))
  small = graph.vpull()
  assert small.interlaced_frame
  assert np.abs(Picker(4, 4, "squash")(small).astype(int) - 100).max() <= 3


def test_a_frame_that_cannot_be_converted_is_damage():
  with pytest.raises(DamagedError, match=r"a frame of 96 x 48 pixels \(yuv420p\) cannot be"):
    Picker(32, 32, "squash", Margins(left=200))(frame())


def test_the_size_shown_is_inside_the_margins():
  assert shown_size(frame(), Margins(6, 10, 2, 6), Fraction(3, 2)) == (40, 120)
