"""Pictures of tracks, owners, axes and attention: each shows what it says, where it is."""

import numpy as np
import pytest

from perceiver_stream.reporting import track_images as pt

RNG = np.random.default_rng(0)
GREY = np.full((3, 40, 60, 3), 100, np.uint8)


def marks(film):
  """Returns the mean (x, y), in raster coordinates, of what was drawn on grey in each picture."""
  found = []
  for picture in film:
    weight = np.abs(picture.astype(int) - 100).sum(axis=-1)
    y, x = np.nonzero(weight)
    found.append(np.average(np.stack([x, y], axis=-1) + 0.5, axis=0, weights=weight[y, x]))
  return np.asarray(found)


@pytest.mark.parametrize("zoom", [1, 3, 12])
def test_points_are_drawn_where_they_are(zoom):
  tracks = np.asarray([[[10.5, 20.5], [20.5, 12.0], [30.0, 20.5]]])
  for seen in (np.ones((1, 3), bool), np.zeros((1, 3), bool)):
    film = pt.draw_tracks(GREY, tracks, seen, trail=0, zoom=zoom)
    assert film.shape == (3, 40 * zoom, 60 * zoom, 3) and film.dtype == np.uint8
    np.testing.assert_allclose(marks(film), tracks[0] * zoom, atol=0.3)
  assert (GREY == 100).all()


def test_hidden_points_are_hollow_and_unknown_ones_are_not_drawn():
  frames = np.full((1, 180, 180, 3), 100, np.uint8)
  centre = lambda *flags: pt.draw_tracks(  # noqa: E731
    frames, np.full((1, 1, 2), 90.5), np.asarray([flags])
  )[0]
  assert (centre(True)[90, 90] == pt.colours_of(1)[0]).all()
  assert (centre(False)[90, 90] == 100).all() and (centre(False) != 100).any()
  nowhere = pt.draw_tracks(frames, np.full((1, 1, 2), np.nan), np.ones((1, 1), bool))
  np.testing.assert_array_equal(nowhere, frames)


def test_trails_reach_back_as_far_as_they_were_seen_and_over_pieces():
  tracks = np.stack([np.arange(8) * 7 + 2.5, np.full(8, 20.5)], axis=-1)[None]
  seen = np.ones((1, 8), bool)
  frames = np.full((8, 40, 60, 3), 100, np.uint8)
  whole = pt.draw_tracks(frames, tracks, seen, trail=3)
  marked = (whole[7] != 100).any(axis=(0, 2))
  assert marked[30:50].all() and not marked[:25].any()
  later = pt.draw_tracks(frames[5:], tracks[:, 2:], seen[:, 2:], trail=3)
  np.testing.assert_array_equal(later, whole[5:])
  seen[0, 5] = False
  broken = (pt.draw_tracks(frames, tracks, seen, trail=3)[7] != 100).any(axis=(0, 2))
  assert not broken[30:40].any()


def test_no_point_changes_nothing():
  film = pt.draw_tracks(GREY, np.zeros((0, 3, 2)), np.zeros((0, 3), bool))
  np.testing.assert_array_equal(film, GREY)


def test_a_pixel_has_the_colour_of_the_token_that_attends_to_it_most():
  attention = RNG.uniform(size=(3, 5, 4, 6))
  film = pt.token_map(attention, GREY, share=1.0)
  owner = attention[1, :, 3, 2].argmax()
  assert (film[1, 30:40, 20:30] == pt.colours_of(5)[owner]).all()
  same = pt.token_map(attention[:, :, :2], GREY, share=1.0)
  assert (same[:, :20] == pt.token_map(attention, GREY, share=1.0)[:, ::2][:, :20]).mean() < 1
  np.testing.assert_array_equal(pt.token_map(attention, GREY, share=0.0), GREY)


def test_token_colours_can_be_those_of_their_latents():
  attention = RNG.uniform(size=(3, 5, 4, 6))
  colours = RNG.integers(0, 255, (3, 5, 3)).astype(np.uint8)
  film = pt.token_map(attention, GREY, colours=colours, share=1.0)
  assert (film[2, 0, 0] == colours[2, attention[2, :, 0, 0].argmax()]).all()
  fixed = pt.token_map(attention, GREY, colours=colours[0], share=1.0)
  assert (fixed[2, 0, 0] == colours[0, attention[2, :, 0, 0].argmax()]).all()


def test_places_that_do_not_divide_the_picture_go_by_pixel_centres():
  attention = np.eye(3)[None, :, None]  # token k owns column k
  film = pt.token_map(attention, np.zeros((1, 2, 7, 3), np.uint8), share=1.0)
  owners = [int(np.argmax((pt.colours_of(3) == pixel).all(axis=-1))) for pixel in film[0, 0]]
  assert owners == [0, 0, 1, 1, 1, 2, 2]


def test_attention_is_bright_where_it_is_strong_one_token_beside_the_other():
  attention = np.zeros((3, 6, 4, 6))
  attention[:, 4, 1, 2] = attention[:, 1, 3, 5] = [0.2, 0.5, 1.0]
  film = pt.attention_heat(attention, np.zeros_like(GREY), [4, 1])
  assert film.shape == (3, 40, 120, 3)
  light = film.astype(int).sum(axis=-1)
  assert light[2, 15, 25] > light[1, 15, 25] > light[0, 15, 25] > light[0, 0, 0]
  assert light[2, 35, 60 + 55] == light[2, 15, 25] and light[2, 35, 55] == light[2, 0, 0]
  strongest = pt.attention_heat(attention, np.zeros_like(GREY))
  np.testing.assert_array_equal(strongest[:, :, :60], pt.attention_heat(attention, 0 * GREY, [1]))
  for tokens in ([], [6]):
    with pytest.raises(ValueError, match="give some of 0 to 5"):
      pt.attention_heat(attention, GREY, tokens)


def test_axes_are_those_of_numpys_svd_and_hold_for_the_whole_film():
  values = RNG.normal(size=(6, 50, 8)) * np.asarray([9, 5, 3, 1, 1, 1, 1, 1.0])
  axes = pt.principal_axes(values)
  flat = (values - values.mean(axis=(0, 1))).reshape(-1, 8)
  _, _, expected = np.linalg.svd(flat, full_matrices=False)
  cosines = np.abs(np.sum(axes.directions * expected[:3].T, axis=0))
  np.testing.assert_allclose(cosines, 1, atol=1e-9)
  film = pt.pca_to_rgb(values)
  np.testing.assert_array_equal(film[2], pt.pca_to_rgb(values[2], axes))
  red = values.reshape(-1, 8) @ axes.directions[:, 0]
  order = np.argsort(red)
  assert (np.diff(film.reshape(-1, 3)[order, 0].astype(int)) >= 0).all()
  assert film.min() == 0 and film.max() == 255


@pytest.mark.parametrize("dim", [1, 2])
def test_fewer_than_three_dimensions_and_constant_values_have_colours_too(dim):
  assert pt.pca_to_rgb(RNG.normal(size=(4, dim)))[:, dim:].max() == 0
  assert np.unique(pt.pca_to_rgb(np.full((4, dim), 0.3))).size == 1


def test_latents_are_squares_in_order_and_a_strip_over_time():
  latents = RNG.normal(size=(5, 7, 4))
  colours = pt.pca_to_rgb(latents)
  film = pt.latent_film(latents, cell=2)
  assert film.shape == (5, 6, 6, 3)
  np.testing.assert_array_equal(film[3, ::2, ::2].reshape(9, 3)[:7], colours[3])
  assert (film[:, 4:, 2:] == 0).all()
  np.testing.assert_array_equal(pt.latent_film(latents, (1, 7), cell=1)[:, 0], colours)
  strip = pt.latent_strip(latents, cell=3)
  assert strip.shape == (21, 15, 3) and (strip[4, 10] == colours[3, 1]).all()
  with pytest.raises(ValueError, match="7 latents do not fit in a grid of 2 x 3"):
    pt.latent_film(latents, (2, 3))


def test_features_fill_the_picture():
  features = RNG.normal(size=(2, 3, 4, 5))
  film = pt.feature_film(features, (30, 20))
  assert film.shape == (2, 30, 20, 3)
  np.testing.assert_array_equal(film[:, 5::10, 2::5], pt.pca_to_rgb(features))
