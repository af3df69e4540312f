import os

import jax
import numpy as np
import pytest

from perceiver_stream import zoo
from perceiver_stream.inference import classification, model_loading

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def loaded():
  return model_loading.untrained("perceiver_classifier/nano")


def test_the_middle_is_looked_at_and_probabilities_are_averaged(loaded):
  height, width = classification.size_to_read(loaded)
  assert (height, width) == (18, 18)  # of 16
  frames = RNG.integers(0, 256, (2, 18, 18, 3)).astype(np.uint8)
  each = [classification.classify(loaded, [{"pixels": f}]) for f in frames]
  both = classification.classify(loaded, [{"pixels": f} for f in frames])
  np.testing.assert_allclose(both, np.mean(each, axis=0), atol=1e-6)
  assert both.sum() == pytest.approx(1, abs=1e-5) and np.abs(each[0] - each[1]).max() > 0
  border = frames[0].copy()
  border[0], border[:, -1] = 255, 0
  np.testing.assert_array_equal(classification.classify(loaded, [{"pixels": border}]), each[0])
  state = loaded.model.initial_state(loaded.params)
  outputs, _ = loaded.model.step(loaded.params, state, {"pixels": frames[:1, 1:17, 1:17]})
  want = jax.nn.softmax(outputs.predictions["label"][0, 0])
  np.testing.assert_allclose(each[0], want, atol=1e-6)


def test_the_likeliest_come_first_by_name(tmp_path):
  path = tmp_path / "names.txt"
  path.write_text("cat\ndog\ncow\n")
  names = classification.read_names(path, 3)
  found = classification.top(np.asarray([0.2, 0.7, 0.1]), names, 2)
  assert found == [("dog", pytest.approx(0.7)), ("cat", pytest.approx(0.2))]
  assert classification.read_names("", 2) == ["class 0", "class 1"]
  with pytest.raises(ValueError, match="has 3 lines, the model 5 classes"):
    classification.read_names(path, 5)
  os.mkfifo(tmp_path / "fifo")
  with pytest.raises(ValueError, match="fifo refused: it is not a regular file"):
    classification.read_names(str(tmp_path / "fifo"), 5)


def test_mistakes_are_explained(loaded):
  with pytest.raises(ValueError, match="there is no image"):
    classification.classify(loaded, [])
  flow = loaded._replace(model=zoo.build("perceiver_flow/nano"))
  with pytest.raises(ValueError, match="a perceiver_flow has no classes"):
    classification.size_to_read(flow)
