"""Flow is judged by the truth, and by labels that are moved along it."""

import numpy as np
import pytest

from perceiver_stream.lab import footage, motion, sources

ROWS, TICKS, SIDE = 2, 20, 16
SPEED = (1, -1)  # of a square, columns and rows a tick


@pytest.fixture(scope="module")
def held_out():
  """A square that moves by whole pixels over a still ground, there and back; two rows alike."""
  labels = np.zeros((ROWS, TICKS, SIDE, SIDE), np.int32)
  flow = np.zeros((ROWS, TICKS, SIDE, SIDE, 2), np.float32)
  for t in range(TICKS):
    y, x = 9 - t // 3, 2 + t // 3  # a step every third tick
    labels[:, t, y : y + 5, x : x + 5] = 1
    if t and t % 3 == 0:
      flow[:, t, y : y + 5, x : x + 5] = -1, 1
  first = np.zeros((ROWS, TICKS), bool)
  first[:, 0], first[1, 10] = True, True
  pixels = np.repeat(np.uint8(200) * labels.astype(np.uint8)[..., None], 3, axis=-1)
  named = {"pixels": pixels, "segmentation": labels, motion.MOTION: flow, "is_first": first}
  return named


def test_the_truth_loses_nothing_and_no_flow_does(held_out):
  rivals = motion.Judge(held_out).rivals()
  truth, none = rivals["the truth"], rivals["no flow"]
  assert truth["epe"] == 0 and none["epe"] > 0.04 and none["roughness"] == 0
  assert truth["epe_things"] == 0 and none["epe_things"] > 5 * none["epe"]
  assert truth["lost@16"] < none["lost@16"] - 0.1  # what was uncovered is taken for the square
  assert [none[f"lost@{k}"] for k in motion.AFTER] == sorted(
    none[f"lost@{k}"] for k in motion.AFTER
  )
  assert none["lost@1"] == truth["lost@1"] == 0, "nothing has moved yet"


def test_labels_left_alone_lose_what_numpy_says(held_out):
  judge = motion.Judge(held_out)
  lost = motion.labels_lost(
    np.zeros_like(judge.truth), held_out["segmentation"], judge.same, (4, 8)
  )
  squares = [held_out["segmentation"][0, t] == 1 for t in (0, 4, 8, 12)]
  iou = lambda a, b: np.sum(a & b) / np.sum(a | b)  # noqa: E731
  # Row 0 starts at 0 and 8; row 1 at 0, and at 8 another recording would come in between.
  four = [iou(squares[0], squares[1]), iou(squares[2], squares[3])]
  np.testing.assert_allclose(lost[4], 1 - np.mean([*four, four[0]]), rtol=1e-6)


def test_pairs_across_recordings_do_not_count(held_out):
  judge = motion.Judge(held_out)
  wrong = judge.truth.copy()
  wrong[1, 9] = 7.0  # said of the first tick of another recording
  assert judge.scores(wrong) == judge.scores(judge.truth)
  wrong[1, 10] = 7.0
  assert judge.scores(wrong)["epe"] > 0.1
  wrong[1, 10] = np.nan
  assert set(judge.scores(wrong).values()) == {None}


def test_dis_is_a_rival_where_opencv_is(held_out, monkeypatch):
  rivals = motion.Judge(held_out).rivals()
  assert rivals["DIS, sees the next"]["epe"] < rivals["DIS of the last two frames"]["epe"]

  def missing():
    raise ImportError

  monkeypatch.setattr(motion.optical_flow, "opencv", missing)
  assert set(motion.Judge(held_out).rivals()) == {"the truth", "no flow"}


def test_recordings_that_are_too_short_are_refused(held_out):
  judge = motion.Judge(held_out)
  with pytest.raises(ValueError, match="no recording has 21 ticks in a row"):
    motion.labels_lost(judge.truth, held_out["segmentation"], judge.same, (20,))


def test_only_some_footage_has_the_truth():
  for source in ("world", "moving"):
    config = sources.sets_of(source, 0, 8)["in_stream"]
    assert (motion.MOTION in footage.watch(config, 1, 2)) == (source == "moving")
