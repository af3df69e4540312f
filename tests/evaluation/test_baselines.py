import itertools

import numpy as np
import pytest
import scenes

from perceiver_stream.evaluation import baselines
from perceiver_stream.training.arrays import flatten

SIZE = 24


def fed(frames, displacements=(1, 2), is_first=(0,), missing=()):
  """Returns what FrameBaselines says of each tick."""
  mine = baselines.FrameBaselines(displacements, *frames.shape[1:3])
  return [
    mine.score(frame, is_first=t in is_first, valid=t not in missing)
    for t, frame in enumerate(frames)
  ]


def mse(a, b):
  return np.mean((a.astype(np.float64) - b) ** 2) / 255**2


def test_copy_is_the_error_of_the_frame_before():
  frames = scenes.moving(6, SIZE)
  for t, errors in enumerate(fed(frames)):
    assert sorted(errors) == [d for d in (1, 2) if t >= d]
    for displacement, by_name in errors.items():
      assert by_name["copy"] == pytest.approx(mse(frames[t - displacement], frames[t]), rel=1e-5)


def test_extrapolating_a_steady_motion_beats_copying_and_the_mix_lies_between():
  late = fed(scenes.moving(8, 48, 2), (1, 3))[-1]
  for by_name in late.values():
    assert by_name["extrap"] < 0.3 * by_name["copy"]
    assert by_name["extrap_d"] < 0.3 * by_name["copy"]
    assert by_name["extrap"] < by_name["mix"] < by_name["copy"]


def test_still_footage_is_predicted_perfectly_by_all():
  still = np.repeat(scenes.moving(1, SIZE), 5, axis=0)
  for errors in fed(still):
    for value in itertools.chain(*(by_name.values() for by_name in errors.values())):
      assert value == pytest.approx(0, abs=1e-9)


def test_the_first_frame_of_a_recording_knows_no_motion_so_extrapolating_is_copying():
  errors = fed(scenes.moving(4, SIZE), (1, 2))
  for tick, displacement in ((1, 1), (2, 2)):
    by_name = errors[tick][displacement]
    assert len(set(by_name.values())) == 1
  assert errors[3][2]["extrap"] != errors[3][2]["copy"]
  assert errors[3][2]["extrap_d"] == errors[3][2]["extrap"]  # nothing two ticks further back


def test_at_displacement_one_both_extrapolations_are_one_and_count_once_in_the_mix():
  frames = scenes.moving(4, SIZE).astype(np.uint8)
  by_name = fed(frames, (1,))[-1][1]
  assert by_name["extrap_d"] == by_name["extrap"]
  from perceiver_stream.evaluation.optical_flow import dis_flow, extrapolate

  moved = extrapolate(frames[2], dis_flow(frames[2], frames[1]), 1)
  assert by_name["mix"] == pytest.approx(mse((moved + frames[2]) / 2, frames[3]), rel=1e-4)


def test_pairs_that_cross_a_recordings_start_are_left_out_and_nothing_leaks():
  frames = np.concatenate([scenes.moving(4, SIZE), scenes.moving(4, SIZE, seed=1)])
  errors = fed(frames, is_first=(0, 4))
  assert errors[4] == {} and sorted(errors[5]) == [1]
  for mine, alone in zip(errors[4:], fed(frames[4:]), strict=True):
    for displacement, by_name in alone.items():
      for name in set(baselines.NAMES) - {"fitted_mix"}:  # its weights stay
        assert mine[displacement][name] == by_name[name]


def test_ticks_without_a_frame_are_bridged():
  frames = scenes.moving(9, 48, 1)
  spoilt = frames.copy()
  spoilt[5] = 99
  errors = fed(spoilt, (1, 2), missing=(5,))
  assert errors[5] == {}
  assert errors[6][1]["copy"] == pytest.approx(mse(frames[4], frames[6]), rel=1e-5)
  # The flow from tick 4 to 3 is carried on for two ticks.
  assert errors[6][1]["extrap"] < 0.3 * errors[6][1]["copy"]
  # At tick 7 the last two frames are those of ticks 6 and 4: one step is half their flow.
  assert errors[7][1]["extrap"] < 0.3 * errors[7][1]["copy"]


def test_what_comes_later_does_not_change_what_was_said():
  frames = scenes.moving(8, SIZE)
  other = frames.copy()
  other[5:] = 255 - other[5:]
  assert fed(frames)[:5] == fed(other)[:5]


def test_memory_is_bounded_and_old_frames_are_forgotten():
  mine = baselines.FrameBaselines((1, 3), SIZE, SIZE)
  sizes = set()
  for t, frame in enumerate(scenes.moving(30, SIZE)):
    mine.score(frame, is_first=t == 0)
    shapes = tuple(v.shape for v in flatten(mine.state()).values())
    sizes.add((shapes, len(mine._flows) <= 3))
  assert len(sizes) == 1 and sizes.pop()[1]


def test_going_on_from_a_state_is_never_having_stopped():
  frames = scenes.moving(10, SIZE)
  whole = fed(frames)
  first, second = (baselines.FrameBaselines((1, 2), SIZE, SIZE) for _ in range(2))
  for t in range(5):
    first.score(frames[t], is_first=t == 0)
  second.restore(first.state())
  assert [second.score(frame) for frame in frames[5:]] == whole[5:]


def test_what_cannot_be_predicted_is_left_out():
  def scored(**flags):
    ticks = enumerate(fed(scenes.moving(9, SIZE), (2,), **flags))
    return [tick for tick, errors in ticks if "mix" in errors.get(2, {})]

  assert scored(missing=(5,)) == [2, 3, 4, 6, 7, 8]
  assert scored(is_first=(0, 7)) == [2, 3, 4, 5, 6]


@pytest.mark.parametrize("displacements", [(), (0, 1), (-1,)])
def test_displacements_must_look_ahead(displacements):
  with pytest.raises(ValueError, match="give at least one, each 1 or more"):
    baselines.FrameBaselines(displacements, SIZE, SIZE)


def test_a_frame_of_another_size_or_range_is_refused():
  mine = baselines.FrameBaselines((1,), SIZE, SIZE)
  with pytest.raises(ValueError, match=r"uint8 \[20, 20, 3\], expected uint8 \[24, 24, 3\]"):
    mine.score(np.zeros((20, 20, 3), np.uint8))
