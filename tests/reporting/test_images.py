import base64
import io

import matplotlib.image
import numpy as np
import pytest

from perceiver_stream.reporting import images

RNG = np.random.default_rng(0)


def decoded(png):
  return np.round(matplotlib.image.imread(io.BytesIO(png), format="png")[..., :3] * 255)


@pytest.mark.parametrize("shape", [(1, 1, 3), (5, 7, 3), (64, 33, 3)])
def test_png_comes_back_as_it_was(shape):
  picture = RNG.integers(0, 256, shape).astype(np.uint8)
  np.testing.assert_array_equal(decoded(images.png_bytes(picture)), picture)


def test_data_uri_holds_the_file():
  uri = images.data_uri(b"abc", "image/svg+xml")
  assert uri.startswith("data:image/svg+xml;base64,")
  assert base64.b64decode(uri.split(",")[1]) == b"abc"


@pytest.mark.parametrize(
  ("direction", "colour"),
  [((1, 0), (255, 0, 0)), ((0, 1), (255, 229, 0)), ((-1, 0), (0, 209, 255))],
)
def test_flow_has_the_middlebury_colours(direction, colour):
  """Numbers of the released colour code, to rounding of the place on the wheel."""
  rgb = images.flow_to_rgb(np.asarray(direction, float), 1.0).astype(int)
  assert np.abs(rgb - colour).max() <= 12


def test_still_is_white_speed_saturates_and_beyond_is_darker():
  speeds = np.stack([np.asarray([0, 0.5, 1, 2]), np.zeros(4)], axis=-1)
  rgb = images.flow_to_rgb(speeds, 1.0).astype(int)
  assert rgb[0].tolist() == [255, 255, 255]
  assert rgb[:3, 1].tolist() == [255, 127, 0]
  assert rgb[3, 0] == 191


def test_flow_scales_to_its_fastest_and_marks_what_is_unknown():
  flow = RNG.normal(size=(6, 5, 2))
  np.testing.assert_array_equal(images.flow_to_rgb(flow), images.flow_to_rgb(10 * flow))
  flow[2, 3, 0] = np.nan
  assert images.flow_to_rgb(flow)[2, 3].tolist() == [0, 0, 0]
  assert (images.flow_to_rgb(np.zeros((2, 2, 2))) == 255).all()


def test_the_wheel_has_55_hues_and_the_legend_is_round():
  wheel = images.colour_wheel()
  assert len(np.unique(wheel, axis=0)) == 55
  legend = images.flow_legend(41)
  assert legend.shape == (41, 41, 3)
  assert (legend[[0, 0, -1, -1], [0, -1, 0, -1]] == 255).all() and (legend[20, 20] == 255).all()


def test_heat_gets_lighter_and_marks_what_is_unknown():
  rgb = images.heat(np.asarray([-9.0, 0, 0.25, 0.5, 0.75, 1, 9]), 0, 1).astype(int)
  assert (np.diff(rgb.sum(-1)[1:-1]) > 0).all()
  assert (rgb[0] == rgb[1]).all() and (rgb[-1] == rgb[-2]).all()
  assert images.heat(np.asarray([np.nan]), 0, 1)[0].tolist() == [128] * 3


def test_a_spectrogram_has_low_notes_below_and_time_to_the_right():
  log_mel = np.full((3, 4), np.log(1e-5))
  log_mel[2, 0] = 0.0  # last frame, lowest band, 0 dB
  picture = images.spectrogram(log_mel).astype(int).sum(-1)
  assert picture.shape == (4, 3) and np.unravel_index(picture.argmax(), (4, 3)) == (3, 2)


def test_labels_keep_their_colour_and_differ():
  ids = np.arange(40)
  rgb = images.segmentation_to_rgb(ids)
  assert rgb[0].tolist() == [0, 0, 0] and len(np.unique(rgb, axis=0)) == 40
  shuffled = RNG.permutation(40)
  np.testing.assert_array_equal(images.segmentation_to_rgb(shuffled), rgb[shuffled])


def test_the_error_map_is_black_only_where_nothing_is_wrong():
  target = RNG.uniform(size=(4, 5, 3))
  prediction = target.copy()
  prediction[1, 2] += 0.2
  rgb = images.error_map(prediction, target).astype(int).sum(-1)
  assert (rgb > rgb[0, 0]).sum() == 1 and rgb.argmax() == 7


def test_frames_become_bytes():
  frame = np.asarray([[[-1, 0.5, 2.0], [np.nan, 0, 1]]])
  assert images.to_rgb(frame).tolist() == [[[0, 128, 255], [0, 0, 255]]]
  same = np.zeros((2, 2, 3), np.uint8)
  assert images.to_rgb(same) is same


@pytest.mark.parametrize("scale", [1, 3])
def test_tiles_stand_side_by_side(scale):
  tiles = RNG.integers(0, 255, (4, 5, 6, 3)).astype(np.uint8)
  row = images.tile_row(tiles, scale, gap=2)
  assert row.shape == (5 * scale, 4 * 6 * scale + 3 * 2, 3)
  np.testing.assert_array_equal(row[::scale, : 6 * scale : scale], tiles[0])
  np.testing.assert_array_equal(row[::scale, -6 * scale :: scale], tiles[3])
  assert (row[:, 6 * scale : 6 * scale + 2] == 255).all()


def test_a_film_strip_stacks_named_rows():
  rows = {
    "input": np.zeros((3, 8, 8, 3), np.uint8),
    "a longer name": np.full((3, 4, 8, 3), 200, np.uint8),
  }
  strip = images.film_strip(rows, scale=4)
  margin = 8 + 8 * len("a longer name")
  assert strip.shape == (32 + 16 + 2, margin + 3 * 32 + 4, 3)
  assert (strip[:32, margin : margin + 32] == 0).all() and (strip[:, :margin] < 128).any()


def test_a_film_strip_says_which_rows_do_not_fit():
  one, two = (np.zeros((n, 8, 8, 3), np.uint8) for n in (1, 2))
  with pytest.raises(ValueError, match="different widths.*'b': 18"):
    images.film_strip({"a": one, "b": two})
  with pytest.raises(ValueError, match="there are no rows"):
    images.film_strip({})
