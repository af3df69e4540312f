"""Sizes of LongViViT: a tower of video and one of text."""

from dataclasses import dataclass, field
from typing import Literal

from perceiver_stream.models.tubelets import Tubelets, check_tubelets
from perceiver_stream.types import Count, Layers, Positive, Share, Size


@dataclass(kw_only=True)
class TextConfig:
  """A transformer over the words of a caption; its feature is their mean.

  Attributes:
    vocabulary: Words.
    num_words: Words of the longest caption.
    dim: Width of the tokens.
    num_layers: Blocks.
    num_heads: Attention heads.
    mlp_dim: Width of the MLPs' hidden layers.
  """

  vocabulary: Size = 30522
  num_words: Size = 64
  dim: Size = 512
  num_layers: Layers = 8
  num_heads: Size = 8
  mlp_dim: Size = 2048


@dataclass(kw_only=True)
class Config(Tubelets):
  """Encoders of long clips and of captions in a common space; the defaults are ViT-B and BERT-medium.

  Attributes:
    attention: `"joint"`: all tubelets attend to all; `"factorised"`: blocks over space, each followed
      by attention over time behind a gate tanh(α), α₀ = 0; `"frames"`: over space only and without
      positions in time, the frame-level baseline.
    num_frames: Frames of a clip; a multiple of the tubelet's.
    height: Rows of a clip.
    width: Columns of a clip.
    patch_height: Rows of a tubelet.
    patch_width: Columns of a tubelet.
    patch_frames: Frames of a tubelet.
    dim: Width of the tokens.
    num_layers: Blocks.
    num_heads: Attention heads.
    mlp_dim: Width of the MLPs' hidden layers.
    embed_dim: Width of the common space.
    masking: Share of the tubelets that are left out in training, at random; not of images.
    inference_masking: The same at inference; `apply` then needs a key.
    adapter_dim: Width of the adapters after the MLPs; 0: none.
    lora_rank: Rank of the updates of all linear maps in the blocks; 0: none.
    norm_eps: Added to variances in layer norms.
    text: The tower of text.
    mean: Mean of RGB, subtracted.
    std: Standard deviation of RGB.
  """

  attention: Literal["joint", "factorised", "frames"] = "joint"
  num_frames: Size = 128
  height: Size = 256
  width: Size = 256
  patch_height: Size = 16
  patch_width: Size = 16
  patch_frames: Size = 2
  dim: Size = 768
  num_layers: Layers = 12
  num_heads: Size = 12
  mlp_dim: Size = 3072
  embed_dim: Size = 512
  masking: Share = 0.75
  inference_masking: Share = 0.0
  adapter_dim: Count = 0
  lora_rank: Count = 0
  norm_eps: Positive = 1e-6
  text: TextConfig = field(default_factory=TextConfig)
  mean: tuple[float, ...] = (0.5,)
  std: tuple[Positive, ...] = (0.5,)

  def num_kept(self, is_training: bool) -> int:
    """Returns the number of tubelets of a clip that are encoded."""
    num = self.grid[0] * self.grid[1] * self.grid[2]
    return num - round((self.masking if is_training else self.inference_masking) * num)

  def validate(self) -> None:
    """Checks combinations of fields; raises ValueError."""
    check_tubelets("longvivit", self.clip_sizes, self.tubelet_sizes)
    for where, config in (("", self), ("text.", self.text)):
      if config.dim % config.num_heads:
        raise ValueError(
          f"longvivit: {where}dim={config.dim} is no multiple of {where}num_heads={config.num_heads}; "
          f"make it one."
        )
    for name in ("mean", "std"):
      if len(getattr(self, name)) not in (1, 3):
        raise ValueError(f"longvivit: {name}={getattr(self, name)}; give one value or three (RGB).")
    for name, is_training in (("masking", True), ("inference_masking", False)):
      if self.num_kept(is_training) < 1:
        raise ValueError(
          f"longvivit: {name}={getattr(self, name)} leaves none of the {self.grid} tubelets; use a "
          f"smaller share."
        )
