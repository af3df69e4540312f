"""Observations that are not finite are not valid and are counted, as each modality computes."""

import numpy as np
import pytest

from perceiver_stream import modalities
from perceiver_stream.modalities import NonFinite, NonFiniteWarning, depth, flow, pixels, vector

CONFIGS = {
  "vector": vector.Config(size=3),
  "pixels": pixels.Config(height=4, width=4),
  "depth": depth.Config(height=4, width=4),
  "flow": flow.Config(height=4, width=4),
}
COUNTED = ("vector", "pixels")


def observed(name, dtype=np.float32):
  modality = modalities.build("it", CONFIGS[name])
  value = np.full((3, 2, *modality.spec.shape), 0.5, dtype)
  return {"it": modality}, value


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", CONFIGS)
def test_one_number_that_is_not_finite_makes_its_tick_of_its_row_not_valid(name, bad):
  known, value = observed(name)
  value[(1, 0, *[0] * (value.ndim - 2))] = bad
  finite = NonFinite(known)
  if name not in COUNTED:  # NaN is how depth and flow say that it is not known
    assert finite({"it": value})["it"] is value and not finite.counts
    return
  with pytest.warns(NonFiniteWarning, match="'it' is not finite"):
    after = finite({"it": value, "other": np.full(3, np.nan)})
  expected = np.ones((3, 2), bool)
  expected[1, 0] = False
  np.testing.assert_array_equal(after["it_valid"], expected)
  np.testing.assert_array_equal(after["it"][expected], value[expected])
  assert after["it"].dtype == value.dtype and not after["it"][1, 0].any()
  assert finite.counts == {"it": 1} and np.isnan(after["other"]).all()


@pytest.mark.filterwarnings("error")
def test_finite_numbers_bytes_and_what_is_not_there_pass_untouched():
  known, value = observed("pixels")
  for observations in ({"it": value}, {"it": value.astype(np.uint8)}, {"other": value}):
    after = NonFinite(known)(observations)
    assert after.keys() == observations.keys() and all(after[n] is observations[n] for n in after)


def test_one_tick_has_rows_alone():
  known, value = observed("pixels")
  value[0, 1, 2, 2, 0] = np.inf
  finite = NonFinite(known)
  with pytest.warns(NonFiniteWarning):
    after = finite({"it": value[0]})
  np.testing.assert_array_equal(after["it_valid"], [True, False])
  assert after["it"].shape == value[0].shape and finite.counts == {"it": 1}


def test_only_valid_and_new_ticks_are_counted_on_from_before_with_one_warning():
  known, value = observed("vector")
  value[...] = np.nan
  valid = np.ones((3, 2), bool)
  valid[2, 1] = False
  finite = NonFinite(known, {"it": 10})
  with pytest.warns(NonFiniteWarning) as found:
    finite({"it": value, "it_valid": valid}, new=1)
    assert finite.counts == {"it": 11}
    finite({"it": value, "it_valid": valid}, new=9)
  assert finite.counts == {"it": 16} and len(found) == 1
