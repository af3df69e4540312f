"""The synthetic world sounds as it moves."""

import numpy as np
import pytest
from stream_checks import synthetic_ticks as ticks

from perceiver_stream.streams import synthetic
from perceiver_stream.streams.world import sound


def test_what_stands_still_is_silent():
  for tick in ticks(3, speed=0.0):
    assert not tick["audio"].any()


def test_without_things_it_is_silent():
  assert not any(tick["audio"].any() for tick in ticks(3, num_things=0))


def test_louder_when_faster():
  loudness = [
    np.mean([np.abs(t["audio"]).mean() for t in ticks(20, speed=s)]) for s in (0.3, 1.0, 2.0)
  ]
  assert loudness == sorted(loudness)


def world(level="medium", **fields):
  config = synthetic.Config(height=48, width=64, seed=3, level=level, **fields)
  return config, synthetic.World(config, 0)


@pytest.mark.parametrize("speed", [1.0, 1.7])
def test_thuds_start_at_the_sample_of_the_impact(speed):
  config, made = world(speed=speed)
  scene = made.scene(synthetic.Moment(config, 0))
  wave = np.concatenate([made.sound(synthetic.Moment(config, tick)) for tick in range(100)])
  hits = [(time / speed, k) for time, k in scene.impacts(0.0, 3.9 * speed)]
  assert len(hits) >= 3
  apart = np.diff([time for time, _ in hits], prepend=-1, append=9)
  for n, (time, _) in enumerate(hits):
    if min(apart[n], apart[n + 1]) < 0.2:
      continue
    # Sample i of the whole is heard at (i + 1) / rate, less the tick before the start.
    first = int(np.ceil(time * 16000 - 1e-6)) - 1 + 640
    before, onset = wave[first - 400 : first], wave[first : first + 10]
    steps = np.abs(np.diff(wave[first - 400 : first + 400]))
    assert np.argmax(steps) == 399, "the greatest jump is where it lands"
    assert np.abs(onset).max() > np.abs(before).max()


def test_things_turn_about_at_the_impact():
  config, made = world(camera=0.0)
  scene = made.scene(synthetic.Moment(config, 0))
  for time, k in scene.impacts(0.0, 5.0):
    before, now, after = scene.places(time + np.array([-0.01, 0.0, 0.01]))[:, k - 1]
    up = scene.up[k - 1]
    hop = 4 * 0.01 * scene.hop[k - 1] / scene.beat[k - 1]
    bend = (after - now) - (now - before)
    assert bend @ up == pytest.approx(2 * hop, rel=0.15)


def test_impacts_are_the_same_however_time_is_divided():
  _, made = world("hard")
  scene = made.scene(synthetic.Moment(made._config, 0))
  parts = [hit for n in range(50) for hit in scene.impacts(n / 10, (n + 1) / 10)]
  assert parts == scene.impacts(0.0, 5.0) and len(parts) > 5


def test_hums_are_one_wave_over_the_ticks():
  for speed in (1.0, 3.0):
    config, made = world(speed=speed)
    scene = made.scene(synthetic.Moment(config, 0))
    times = [(n + np.arange(1, 641) / 640) / 25 for n in range(20)]
    wave = np.concatenate([sound._hums(scene, time, speed, 64) for time in times])
    steps = np.abs(np.diff(wave))
    assert steps[639::640].max() <= np.sort(steps)[-20] * 1.1, "no click where two ticks meet"


def test_pitch_falls_as_a_thing_sinks():
  config, made = world(speed=0.5, num_things=1)
  scene = made.scene(synthetic.Moment(config, 0))
  time = np.linspace(1.0, 3.0, 200)
  cycles = sound._cycles(scene, time, 0.5, 64)[:, 0]
  pitch = np.diff(cycles) / np.diff(time)
  height = scene.places((time[1:] + time[:-1]) / 2 * 0.5)[:, 0, 1]
  away = scene.pitch_hz[0] * (1 - (height - scene.centre[0, 1]) / 64)
  np.testing.assert_allclose(pitch, away, rtol=1e-3)


def test_sound_at_a_cut_is_of_the_scene_before():
  cut, whole = ticks(6, ticks_per_scene=4), ticks(6)
  for n in range(5):
    np.testing.assert_array_equal(cut[n]["audio"], whole[n]["audio"])
  assert (cut[5]["audio"] != whole[5]["audio"]).any()


def test_never_beyond_full_scale():
  wave = np.concatenate([tick["audio"] for tick in ticks(60, level="hard", speed=4.0)])
  assert 0.3 < np.abs(wave).max() <= 1
