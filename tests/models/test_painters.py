"""Errors of the small frame predictors."""

import jax
import jax.numpy as jnp
import pytest

from perceiver_stream.models.frame_predictors import conv3d, trecvit
from perceiver_stream.types import ModalitySpec


def test_errors_say_what_is_wrong():
  config = conv3d.Config(height=8, width=16, patch=4, dim=8, num_layers=2, displacements=(1, 3))
  model = conv3d.build(config)
  frames = {"pixels": jnp.zeros((1, 8, 16, 3), jnp.uint8)}
  params = model.init(jax.random.key(0), frames)
  _, state = model.step(params, model.initial_state(params), frames)
  with pytest.raises(ValueError, match=r"CausalConv3D: it predicts \(1, 3\) ticks ahead, not 2"):
    model.predict(params, state, (2,))
  with pytest.raises(ValueError, match="frames 8×10 are not a whole number of 4×4 patches"):
    conv3d.build(conv3d.Config(height=8, width=10, patch=4)).init(
      jax.random.key(0), {"pixels": jnp.zeros((1, 8, 10, 3), jnp.uint8)}
    )
  with pytest.raises(ValueError, match=r"trecvit: the stream has \['audio'\]"):
    trecvit.FAMILY.fit(trecvit.Config(), {"audio": ModalitySpec(shape=(4,))})
