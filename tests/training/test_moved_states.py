"""States of older versions: the same arrays under the names of their time."""

from typing import Any, NamedTuple

import numpy as np
import pytest

from perceiver_stream.models.recurrent import State
from perceiver_stream.training.arrays import CheckpointError, flatten, unflatten

MEMORY = {"pixels": np.arange(3.0)}


class Old(NamedTuple):
  latents: Any
  start: Any
  memory: Any


class OldFramePredictor(NamedTuple):
  latents: Any
  inner: Any
  memory: Any


class OldFeedForward(NamedTuple):
  latents: Any
  memory: Any
  clip: Any


@pytest.mark.parametrize("kind", [Old, OldFramePredictor, OldFeedForward])
@pytest.mark.parametrize("beside", [np.ones(2), {"image": np.ones(2), "audio": np.zeros(4)}])
def test_a_state_of_an_older_version_is_read(kind, beside):
  field = next(name for name in kind._fields if name not in State._fields)
  old = flatten({"state": kind(latents=np.zeros(5), memory=MEMORY, **{field: beside})})
  template = {"state": State(np.zeros(5), MEMORY, beside)}
  np.testing.assert_equal(unflatten(old, template), template)


def test_a_name_that_is_expected_is_not_moved():
  tree = {"start": np.zeros(2), "extra": np.ones(2)}
  np.testing.assert_equal(unflatten(flatten(tree), tree), tree)
  with pytest.raises(CheckpointError, match="Missing: extra. Not expected: begin"):
    unflatten({"start": np.zeros(2), "begin": np.ones(2)}, tree)
