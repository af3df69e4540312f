"""Sizes of ViViT."""

from dataclasses import dataclass
from typing import Literal

from perceiver_stream.models.tubelets import Tubelets
from perceiver_stream.types import Count, Layers, Positive, Share, Size

Kind = Literal[
  "spacetime",
  "factorized_encoder",
  "factorized_self_attention_block",
  "factorized_dot_product_attention",
]


@dataclass(kw_only=True)
class Config(Tubelets):
  """A vision transformer over tubelets.

  Attributes:
    kind: Model 1: `"spacetime"`, all tokens attend to all; model 2: `"factorized_encoder"`, a
      transformer of each time, then one over time; model 3: `"factorized_self_attention_block"`,
      each block attends over time and over space; model 4: `"factorized_dot_product_attention"`,
      half of the heads attend over time, half over space.
    num_frames: Frames of a clip; a multiple of the tubelet's.
    height: Rows of a clip.
    width: Columns of a clip.
    patch_height: Rows of a tubelet.
    patch_width: Columns of a tubelet.
    patch_frames: Frames of a tubelet.
    dim: Width of the tokens.
    num_layers: Blocks; in model 2 those of each time.
    num_temporal_layers: Blocks over time, model 2 only.
    num_heads: Attention heads.
    mlp_dim: Width of the MLPs' hidden layers.
    classifier: Clip feature: `"token"`: a class token (models 1 and 2); `"gap"`, `"gmp"`, `"gsp"`:
      mean, maximum, sum over the tokens.
    num_classes: Width of the logits; 0 leaves the classifier out.
    attention_order: Order in a block of model 3.
    zero_init_time: If True, the output of attention over time starts at zero (model 3), so that an
      image model's weights give an image model.
    tubelet_init: Initial weight of the tubelets: `"central_frame"` reads one frame of each only;
      `"full"` is random.
    dropout: Rate in training.
    drop_path: Rate of left-out branches in the last block, growing linearly over the blocks. Kept
      branches are not scaled up, and model 3 leaves none out, as released.
    norm_eps: Added to variances in layer norms.
    causal: If True, attention over time is masked, and the encoder runs frame by frame. Needs
      another `classifier` than `"token"`. Positions in time repeat after `num_frames`.
    memory: Times (tubelets) that a causal token attends to; 0: those of `num_frames`.
    mean: Mean of RGB, subtracted.
    std: Standard deviation of RGB.
  """

  kind: Kind = "spacetime"
  num_frames: Size = 32
  height: Size = 224
  width: Size = 224
  patch_height: Size = 16
  patch_width: Size = 16
  patch_frames: Size = 2
  dim: Size = 768
  num_layers: Layers = 12
  num_temporal_layers: Layers = 4
  num_heads: Size = 12
  mlp_dim: Size = 3072
  classifier: Literal["token", "gap", "gmp", "gsp"] = "token"
  num_classes: Count = 400
  attention_order: Literal["time_space", "space_time"] = "time_space"
  zero_init_time: bool = False
  tubelet_init: Literal["central_frame", "full"] = "central_frame"
  dropout: Share = 0.0
  drop_path: Share = 0.0
  norm_eps: Positive = 1e-6
  causal: bool = False
  memory: Count = 0
  mean: tuple[float, ...] = (0.5,)
  std: tuple[Positive, ...] = (0.5,)

  def validate(self) -> None:
    """Checks combinations of fields; raises ValueError."""
    if (
      self.classifier == "token"
      and self.kind.startswith("factorized_")
      and (self.kind != "factorized_encoder")
    ):
      raise ValueError(
        f"vivit: kind={self.kind!r} has no class token; use classifier='gap', as released."
      )
    if self.causal and self.classifier == "token":
      raise ValueError(
        "vivit: a class token reads all frames, so causal=True needs classifier='gap'."
      )
    if not all(self.grid):
      raise ValueError(
        f"vivit: a clip has {self.grid} tubelets; make it at least one tubelet large."
      )
    if self.memory > self.grid[0]:
      raise ValueError(
        f"vivit: memory={self.memory} tubelets, but there are positions for {self.grid[0]}; use at "
        f"most those, or more num_frames."
      )
