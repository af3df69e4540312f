"""Numbers in names: natural order, and which of them stand for times."""

from fractions import Fraction

import pytest

from perceiver_stream.streams.frame_numbers import (
  common_step,
  frame_numbers,
  natural_key,
  positions,
  skeleton,
)


@pytest.mark.parametrize(
  "names",
  [
    ["1.png", "2.png", "10.png", "100.png"],
    ["a1b2", "a1b10", "a2b1", "a10b0"],
    ["f01", "f1", "f2"],
    ["", "a", "a0", "b"],
    ["20240131_235959.jpg", "20240201_000000.jpg"],
  ],
)
def test_natural_order(names):
  assert sorted(reversed(names), key=natural_key) == names


def test_what_is_the_same_but_for_numbers():
  assert skeleton("00012.jpg") == skeleton("7.JPG") == "#.jpg"
  assert skeleton("left_1.png") != skeleton("right_1.png")


@pytest.mark.parametrize(
  ("names", "expected"),
  [
    (["00000.jpg", "00001.jpg", "00003.jpg"], [0, 1, 3]),
    (["cam2_7.png", "cam2_8.png"], [7, 8]),
    (["frame7_v2.png", "frame8_v2.png"], [7, 8]),
    (["000000_10.png", "000000_11.png", "000001_10.png"], None),  # two of them differ
    (["2024-01-01.png", "2024-01-02.png", "2024-02-01.png"], None),
    (["x.png", "x.png"], None),
  ],
)
def test_the_number_that_counts_frames(names, expected):
  assert frame_numbers(names) == expected


@pytest.mark.parametrize(
  ("numbers", "expected"),
  [
    ([], []),
    ([5], [0]),
    ([0, 20, 40, 60], [0, 1, 2, 3]),
    ([1, 2, 4, 5], [0, 1, 3, 4]),
    ([0, 2, 4, 5, 6, 8], [0, 1, 2, Fraction(5, 2), 3, 4]),
    ([1, 2, 30_000_000], None),
    ([1, 2, 10**200], None),
    ([20240101, 20240102, 20240201], None),
    ([1, 2, 2, 3], None),
    ([1, 1], None),
  ],
)
def test_positions_are_counted_and_not_listed(numbers, expected):
  assert positions(numbers) == expected


def test_the_common_step_is_the_smallest_of_the_most_frequent():
  assert [common_step(n) for n in ([3], [1, 3, 6], [1, 3, 6, 9], [0, 5])] == [1, 2, 3, 5]
