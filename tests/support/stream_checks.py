"""What the tests of streams have in common."""

import json

import numpy as np

from perceiver_stream import streams
from perceiver_stream.streams import video

BARS = {"height": 24, "width": 48, "crop": "squash"}  # a picture in which the bars can be read


def video_row(path, **fields):
  """Returns the one row of a video."""
  return streams.open_rows(video.Config(path=str(path), **BARS | fields))[0]


def assert_same(one, other):
  assert one.keys() == other.keys()
  for name in one:
    np.testing.assert_array_equal(one[name], other[name], err_msg=name)
    assert one[name].dtype == other[name].dtype


def elements_and_states(dataset):
  """Returns all elements, and the states before each and after the last, as JSON gives them back."""
  iterator = iter(dataset)
  elements, states = [], [iterator.get_state()]
  for element in iterator:
    elements.append(element)
    states.append(json.loads(json.dumps(iterator.get_state())))
  iterator.close()
  return elements, states


def assert_restores(dataset, places=None, ahead=5):
  """Checks that going on from a state equals never having stopped."""
  elements, states = elements_and_states(dataset)
  assert len({json.dumps(_shape(state)) for state in states}) == 1, "keys of the state change"
  for at in places or range(len(elements) + 1):
    iterator = iter(dataset)
    iterator.set_state(states[at])
    assert json.loads(json.dumps(iterator.get_state())) == states[at]
    for expected in elements[at : at + ahead]:
      assert_same(next(iterator), expected)
    if at + ahead > len(elements):
      assert next(iterator, None) is None
    iterator.close()
  return elements


def _shape(state):
  if isinstance(state, dict):
    return {key: _shape(value) for key, value in state.items()}
  return [_shape(value) for value in state] if isinstance(state, list) else type(state).__name__


def synthetic_ticks(num=12, row=0, **fields):
  """Returns ticks of the synthetic world, 48 x 64."""
  config = streams.synthetic.Config(
    **{"height": 48, "width": 64, "max_ticks": num, "seed": 3} | fields
  )
  return list(streams.open_rows(config, row + 1)[row])
