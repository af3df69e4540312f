"""Sound of rooms: one pitch per class, loudness by distance, continuous, and causal."""

import dataclasses

import numpy as np
import pytest

from perceiver_stream import streams
from perceiver_stream.streams import rooms
from perceiver_stream.streams.rooms import layout, sound

RATE = 8000


def scene_of(kinds, seed=0):
  """Returns a room with the first object of each of these classes, and no other."""
  for number in range(seed, seed + 200):
    scene = layout.sample(np.random.default_rng(number), layout.LEVELS["hard"])
    found = {rooms.CLASSES[solid.label]: solid for _, solid in reversed(sound.sources(scene))}
    if set(kinds) <= set(found):
      return dataclasses.replace(scene, solids=[found[kind] for kind in kinds])
  raise AssertionError(f"no room has {kinds}")


@pytest.mark.parametrize("kind", sorted(sound.PITCH_HZ))
def test_each_class_has_its_pitch(kind):
  wave = sound.sound(scene_of([kind]), 0.0, 1.0, RATE)
  spectrum = np.abs(np.fft.rfft(wave * np.hanning(RATE)))
  assert np.argmax(spectrum) == pytest.approx(sound.PITCH_HZ[kind], rel=0.02)


def test_loudness_is_that_of_the_distance():
  scene = scene_of(["box"])
  (index, box), *_ = sound.sources(scene)
  for time in (0.0, 1.3, 4.0):
    wave = sound.sound(scene, time, time + 0.04, 320)
    metres = np.linalg.norm(box.place(time) - scene.pose(time)[:, 3])
    assert np.abs(wave).max() == pytest.approx(np.tanh(0.1 / metres), rel=0.1)
  near = dataclasses.replace(box, centre=scene.pose(0.0)[:, 3])
  assert sound.loudness(scene, near, 0.0) == pytest.approx(sound.LOUDNESS / sound.NEAREST_M)
  assert index == 0


def test_sounds_add_up_and_a_table_hums_once():
  both = scene_of(["ball", "table"])
  one, other = (dataclasses.replace(both, solids=[s]) for s in both.solids)
  wave = np.arctanh(sound.sound(both, 0.0, 0.1, 800).astype(float))
  single = np.arctanh(sound.sound(one, 0.0, 0.1, 800).astype(float))
  rest = wave - single
  assert 0.5 < np.abs(rest).max() / np.abs(np.arctanh(sound.sound(other, 0.0, 0.1, 800))).max() < 2
  scene = layout.sample(np.random.default_rng(1), layout.LEVELS["hard"])
  labels = [rooms.CLASSES[s.label] for s in scene.solids]
  assert labels.count("table") >= 2  # a top and a leg each
  named = [rooms.CLASSES[s.label] for _, s in sound.sources(scene)]
  assert named.count("table") == labels.count("table") // 2


def ticks_of(num, **fields):
  names = ("audio", "camera")
  config = rooms.Config(
    height=8, width=8, modalities=names, audio_rate_hz=RATE, max_ticks=num, **fields
  )
  return list(streams.open_rows(config)[0])


def test_ticks_are_one_wave_that_ends_at_their_image():
  wave = np.concatenate([tick["audio"] for tick in ticks_of(5, seed=4)])
  assert wave.dtype == np.float32 and np.abs(wave).max() <= 1
  room = rooms.Room(rooms.Config(height=8, width=8, seed=4), 0, 0)
  whole = np.concatenate(
    [sound.sound(room._scene, (t - 1) / 25, t / 25, RATE // 25) for t in range(5)]
  )
  np.testing.assert_array_equal(wave, whole)
  assert np.abs(np.diff(wave)).max() < 2 * np.abs(np.diff(wave[:320])).max() + 1e-3  # no clicks


def test_sound_is_a_formula_of_the_seed_and_the_tick_and_of_no_other_modality():
  ticks = ticks_of(6, ticks_per_recording=4, seed=2)
  config = rooms.Config(
    height=8, width=8, modalities=("pixels", "audio"), audio_rate_hz=RATE, seed=2
  )
  room = rooms.Room(config, 0, 0)
  room.skip(3)
  np.testing.assert_array_equal(room.read()["audio"], ticks[3]["audio"])
  np.testing.assert_array_equal(rooms.Room(config, 0, 1).read()["audio"], ticks[4]["audio"])
  assert ticks[4]["is_first"] and not np.allclose(ticks[0]["audio"], ticks[4]["audio"])
  specs = streams.specs(config)["audio"]
  assert specs.shape == (RATE // 25,) and specs.offset_s == pytest.approx(-0.04)
