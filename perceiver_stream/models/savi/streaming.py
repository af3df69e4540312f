"""SAVi on a stream: slots that compete for each frame, decoded to a modality and to masks.

Beside the target, `predict` gives `<target>_slots`, the share of each slot in each pixel. If the model
is conditional, a recording whose first tick has a segmentation starts from the boxes of its objects; others
start from learned slots. Later segmentations are not read.
"""

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from perceiver_stream import modalities as modality_room
from perceiver_stream.core import CoreInputs
from perceiver_stream.core.slots import SlotConfig, SlotState
from perceiver_stream.modalities import Modality, ModalityConfig, depth, flow, pixels, segmentation
from perceiver_stream.models.base import Model, as_model
from perceiver_stream.models.family import Card, Family, fit_frames
from perceiver_stream.models.input_memory import Remembered
from perceiver_stream.models.recurrent import RecurrentNetwork, State
from perceiver_stream.models.savi.network import Config, Savi
from perceiver_stream.nn import where_rows
from perceiver_stream.nn.boxes import box_edges
from perceiver_stream.types import Size, Ticks

TARGETS = {"pixels": 3, "flow": 2, "depth": 1}  # and their channels


@dataclass(kw_only=True)
class StreamConfig(Config):
  """Sizes of SAVi on a stream; the decoder's image is resized to the frame's.

  Attributes:
    target: Modality that is decoded: "pixels", "flow" or "depth".
    displacements: Ticks ahead that are decoded: 0 from the corrected slots, others from predicted ones.
    remat: Whether the recurrence is recomputed in the backward pass.
  """

  target: str = "flow"
  target_dim: Size = 2
  displacements: tuple[Ticks, ...] = (0,)
  remat: bool = False

  def validate(self) -> None:
    """Checks the fields; raises ValueError."""
    super().validate()
    if self.target not in TARGETS:
      raise ValueError(f"savi: target={self.target!r}; use one of {', '.join(TARGETS)}.")
    if self.target_dim != TARGETS[self.target]:
      raise ValueError(
        f"savi: target_dim={self.target_dim}, but {self.target} has {TARGETS[self.target]} channels; "
        f"set target_dim to that."
      )


class SlotNetwork(RecurrentNetwork):
  """`Savi` as a `models.base.Network`."""

  def __init__(self, config: StreamConfig, modalities: dict[str, Modality]):
    self.config, self.modalities = config, modalities
    self.net = Savi(config)
    self.core = self.net.core

  def encode(self, state: State, kept: Remembered) -> tuple[CoreInputs, tuple[()]]:
    """Returns the core's inputs at each of T ticks, and no further carry."""
    tokens = self.net.encode(kept.memory["pixels"].last)
    start = self._cued(kept) if self.config.conditional else None
    return CoreInputs(tokens, is_first=kept.is_first, start=start, valid=kept.valid["pixels"]), ()

  def _cued(self, kept: Remembered) -> Float[Array, "T B S D"]:
    """Returns the slots with which a recording starts at each tick."""
    boxes, _ = box_edges(
      kept.memory["segmentation"].last.astype(jnp.int32), self.config.slots.num_slots - 1
    )
    cued = self.net.cued(boxes.reshape(-1, *boxes.shape[2:]))
    learned = self.net.core.initial_state(cued.shape[0]).predicted
    slots = where_rows(kept.valid["segmentation"].reshape(-1), cued, learned)
    return slots.reshape(*boxes.shape[:2], *slots.shape[1:])

  def decode_at(
    self,
    name: str,
    state: State,
    cells: Int[Array, " Q"] | None,
    displacements: tuple[int, ...],
  ) -> dict[str, Float[Array, "B K Q p p ..."]]:
    """Returns the target and the slots' shares; see `QueriedNetwork`."""
    decoded = self.net.decode(jnp.stack(self._at(state.latents, displacements), axis=1))
    found = {name: decoded.target, f"{name}_slots": jnp.moveaxis(decoded.shares, 2, -1)}
    return {key: self._cells(name, key, value, cells) for key, value in found.items()}

  def _at(self, slots: SlotState, displacements: tuple[int, ...]) -> list[Float[Array, "B S D"]]:
    """Returns the slots at each displacement."""
    ahead = [slots.corrected, slots.predicted]
    while len(ahead) <= max(displacements):
      ahead.append(self.net.core.predict(ahead[-1])[0])
    return [ahead[d] for d in displacements]

  def _cells(
    self, name: str, key: str, images: Float[Array, "B K h w C"], cells: Int[Array, " Q"] | None
  ) -> Float[Array, "B K Q p p ..."]:
    c, lead = self.config, images.shape[:2]
    whole = jax.image.resize(images, (*lead, c.height, c.width, images.shape[-1]), "linear")
    channels = () if key == "depth" else whole.shape[4:]
    flat = whole.reshape(-1, c.height, c.width, *channels)
    found = self.modalities[name].split(flat)
    found = found.reshape(*lead, *found.shape[1:])
    return found if cells is None else found[:, :, cells]


def modalities_of(config: StreamConfig) -> dict[str, ModalityConfig]:
  """Returns the modalities of a config: frames, the target, and masks as cues."""
  size: dict[str, Any] = {"height": config.height, "width": config.width, "patch": 1}
  found: dict[str, ModalityConfig] = {
    "pixels": pixels.Config(tokenizer="pixel", use_output=config.target == "pixels", **size)
  }
  if config.target == "flow":
    found["flow"] = flow.Config(use_input=False, scale=1.0, **size)
  if config.target == "depth":
    found["depth"] = depth.Config(use_input=False, **size)
  if config.conditional:
    found["segmentation"] = segmentation.Config(
      use_output=False, num_classes=config.slots.num_slots, **size
    )
  return found


def build(config: StreamConfig) -> Model:
  """Returns the model that `config` describes; raises ValueError if it contradicts itself."""
  config.validate()
  modalities = {n: modality_room.build(n, m) for n, m in modalities_of(config).items()}
  return as_model(lambda: SlotNetwork(config, modalities), modalities, config.displacements, config)


def _small(side: int, slots: int, dim: int, canvas: int) -> StreamConfig:
  return StreamConfig(
    height=side,
    width=side,
    slots=SlotConfig(num_slots=slots, dim=dim, predictor_mlp_dim=2 * dim),
    channels=(dim, dim, dim),
    strides=((2, 2), (2, 2), (1, 1)),
    kernel=3,
    encoder_dim=2 * dim,
    cue_dim=2 * dim,
    canvas=(canvas, canvas),
    decoder_kernel=1,  # an MLP for each cell: many cheap updates
    decoder_channels=(dim, dim),
    decoder_strides=((1, 1),) * 2,
    decoder_transposed=(False,) * 2,
    target="depth",
    target_dim=1,
  )


def _nano() -> StreamConfig:
  changes: dict[str, Any] = {
    "conditional": False,
    "target": "pixels",
    "target_dim": 3,
    "displacements": (1,),
  }
  return replace(_small(8, 3, 8, 4), **changes)


VARIANTS = {
  "small": lambda: StreamConfig(target_dim=2),
  "tiny": lambda: _small(64, 8, 32, 16),
  "tiny_unconditional": lambda: replace(_small(64, 8, 32, 16), conditional=False),
  "nano": _nano,
}

FAMILY = Family(
  name="savi",
  config=StreamConfig,
  build=build,
  fit=fit_frames("savi"),
  variants=VARIANTS,
  card=Card(
    summary="Slots that compete for the parts of a frame, from boxes of the first tick or learned ones.",
    paper="Kipf et al. 2022, SAVi, 2111.12594; SAVi++, 2206.07764, for depth as target",
    code="google-research/slot-attention-video",
    inputs="pixels; at the first tick of a recording, a segmentation whose objects' boxes are cues",
    limits="No weights were released. The released target is flow as colours; here it is flow in "
    "pixels, frames, or depth.",
  ),
  objective="perceiver_stream.models.savi.objective.SlotDecoding",
)
