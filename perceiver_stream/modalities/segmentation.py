"""Segmentation: a class per pixel."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Num

from perceiver_stream.modalities.base import mean_over_element
from perceiver_stream.modalities.dense import Dense, DenseConfig
from perceiver_stream.types import ModalitySpec, Size

# Log-odds of a copied class: large enough for a prediction, small enough that changes can be
# learned.
_COPY_LOGIT = 4.0


@dataclass(kw_only=True)
class Config(DenseConfig):
  """Sizes of the segmentation modality.

  Attributes:
    num_classes: Number of classes; ids outside [0, num_classes) count as class 0.
    foreground: If True, there are two classes, 0 and all other ids. For ids that only number the
      objects of a scene, which cannot be predicted.
  """

  num_classes: Size = 16
  foreground: bool = False

  def validate(self) -> None:
    """Checks the fields; raises ValueError."""
    super().validate()
    if self.foreground and self.num_classes != 2:
      raise ValueError(
        f"segmentation: foreground=True separates objects from ground, which are 2 classes, but "
        f"num_classes={self.num_classes}; set num_classes=2."
      )

  @property
  def spec(self) -> ModalitySpec:
    """Class ids."""
    return ModalitySpec(
      shape=(self.height, self.width),
      dtype="int32",
      minimum=0.0,
      maximum=float(self.num_classes - 1),
      rate_hz=self.rate_hz,
      units="class id",
    )


class Segmentation(Dense):
  """Class ids `[H, W]`; predictions are logits `[H, W, num_classes]`."""

  metric_name = "pixel_error"

  def preprocess(self, raw: Num[Array, "..."]) -> Int[Array, "..."]:
    """Returns int32 ids; unknown ids become 0."""
    ids = raw.astype(jnp.int32)
    if self.config.foreground:
      return (ids != 0).astype(jnp.int32)
    return jnp.where((ids >= 0) & (ids < self.config.num_classes), ids, 0)

  def copy(self, value: Num[Array, "..."]) -> Float[Array, "..."]:
    """Returns confident logits of these classes."""
    return _COPY_LOGIT * jax.nn.one_hot(value, self.config.num_classes, dtype=jnp.float32)

  def prior(self, batch_size: int) -> Float[Array, "B ..."]:
    """Returns zero logits."""
    return jnp.zeros_like(super().prior(batch_size))

  def postprocess(self, prediction: np.ndarray) -> np.ndarray:
    """Returns the most likely class ids."""
    return np.argmax(prediction, axis=-1).astype(np.int32)

  def loss(self, prediction: Float[Array, "N ..."], target: Num[Array, "N ..."]) -> Array:
    """Returns the mean cross-entropy, nats per pixel."""
    log_probs = jax.nn.log_softmax(prediction, axis=-1)
    picked = jnp.take_along_axis(log_probs, target[..., None], axis=-1)[..., 0]
    return mean_over_element(-picked)

  def metric(self, prediction: Float[Array, "N ..."], target: Num[Array, "N ..."]) -> Array:
    """Returns the share of pixels with a wrong class."""
    wrong = jnp.argmax(prediction, axis=-1).astype(jnp.int32) != target
    return mean_over_element(wrong.astype(jnp.float32))

  def picture(self, prediction: np.ndarray) -> np.ndarray:
    """Returns one colour per class; class 0 is black."""
    ids = prediction if prediction.ndim == 2 else np.argmax(prediction, axis=-1)
    index = np.arange(self.config.num_classes)
    palette = np.stack([index * 67 % 256, index * 151 % 256, index * 211 % 256], axis=-1)
    return palette.astype(np.uint8)[ids]


MODALITY = (Config, Segmentation)
