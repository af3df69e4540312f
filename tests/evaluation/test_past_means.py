import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_stream.evaluation import past_means
from perceiver_stream.modalities import audio, depth
from perceiver_stream.training.arrays import flatten

SOUND = audio.Config(num_samples=384, num_mels=8)
AHEAD = (1, 3)


def sounds(ticks, seed=0):
  rng = np.random.default_rng(seed)
  loud = rng.uniform(0.01, 0.5, (ticks, 1))
  return (loud * rng.normal(size=(ticks, SOUND.num_samples))).astype(np.float32)


def fed(means, values, is_first=(0,), missing=()):
  return [
    means.score(value, is_first=t in is_first, valid=t not in missing)
    for t, value in enumerate(values)
  ]


@pytest.mark.parametrize("seed", range(4))
def test_means_of_sound_are_those_of_all_spectra_up_to_the_source(seed):
  ticks, starts, missing = 24, (0, 11), {4, 5, 17}
  values = sounds(ticks, seed)
  modality = audio.Audio("audio", SOUND)
  spectra = np.asarray(modality.log_mel(jnp.asarray(values)))
  scores = fed(past_means.sound_means(SOUND, AHEAD), values, starts, missing)
  for t in range(ticks):
    start = max(s for s in starts if s <= t)
    for d in AHEAD:
      before = [s for s in range(t - d + 1) if s not in missing]
      here = [s for s in before if s >= start]
      if t in missing or not here:
        assert d not in scores[t]
        continue
      for name, of in (("past_mean", before), ("recent_mean", here[-past_means.RECENT_TICKS :])):
        spectrum = spectra[of].mean(axis=(0, 1))
        prediction, target = jnp.asarray(np.broadcast_arrays(spectrum, spectra[t]))
        expected = modality.metric(prediction[None], target[None])[0]
        assert scores[t][d][name] == pytest.approx(float(expected), rel=1e-4)


def test_nothing_after_the_source_matters():
  values, other = sounds(12), sounds(12)
  other[9:11] = 0.9  # between source and target of 3 ticks ahead
  one, two = (fed(past_means.sound_means(SOUND, AHEAD), v)[11] for v in (values, other))
  assert one[3] == two[3] and one[1] != two[1]


def test_depth_is_the_mean_within_range_over_recordings():
  config = depth.Config(height=2, width=4, nearest=1.0, farthest=10.0)
  frames = [np.full((2, 4), d, np.float32) for d in (2, 4, np.inf, np.nan, 9)]
  scores = fed(past_means.depth_means(config, (1,)), frames, is_first=(0, 3), missing=(3,))
  assert scores[0] == {} and scores[3] == {} and scores[4] == {}
  assert scores[1][1]["past_mean"] == pytest.approx(abs(2 - 4) / 4)
  assert scores[2][1]["past_mean"] == pytest.approx(abs(3 - 10) / 10)
  later = fed(past_means.depth_means(config, (1,)), [*frames, frames[0]], (0, 4), (3,))[5]
  mean = (2 + 4 + 10 + 9) / 4
  assert later[1]["past_mean"] == pytest.approx((mean - 2) / 2)


def test_going_on_from_a_state_is_never_having_stopped():
  values = sounds(20)
  make = lambda: past_means.sound_means(SOUND, AHEAD)  # noqa: E731
  whole, first, second = make(), make(), make()
  want = fed(whole, values)
  fed(first, values[:9])
  shapes = {k: v.shape for k, v in flatten(second.state()).items()}
  second.restore(first.state())
  assert {k: v.shape for k, v in flatten(second.state()).items()} == shapes
  assert [second.score(value) for value in values[9:]] == want[9:]
