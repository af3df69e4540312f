import numpy as np
import pytest

from perceiver_stream.utils.opencv import resized


@pytest.mark.parametrize(
  ("size", "expected"),
  [((2, 2), [[25, 25], [25, 25]]), (None, None), ((4, 4), None)],
)
def test_images_are_averaged_where_they_get_smaller(size, expected) -> None:
  image = np.zeros((4, 4, 3), np.uint8)
  image[::2, ::2] = 100
  done = resized(image, size)
  if expected is None:
    assert done is image
  else:
    np.testing.assert_array_equal(done, np.asarray(expected)[..., None].repeat(3, axis=-1))
