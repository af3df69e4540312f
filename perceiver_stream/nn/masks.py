"""Masks of attention by name: between modalities, and over space and time.

Each function returns a boolean numpy array `[N, N]`: True where the query (row) may attend to the key
(column). `for_rows` makes it the mask that `nn.Attention` and the blocks take, with tokens that are
not valid removed from the keys.

Between modalities as in "Decoupling the Role of Data, Attention, and Losses in Multimodal
Transformers" (Hendricks et al. 2021, 2102.00529), where each type has weights of its own per modality;
here only the mask differs, so that types can be compared at equal parameters. More than two modalities
are our extension: "the other" modality becomes all others.
"""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool

Mask = Bool[np.ndarray, "N N"]

BETWEEN_MODALITIES = ("merged", "modality_specific", "coattention", "asymmetric")
OVER_FRAMES = ("joint", "space_only", "time_only", "frame_causal", "time_only_causal")


def between_modalities(kind: str, num_tokens: Sequence[int], *, asking: int = 0) -> Mask:
  """Returns the mask over the tokens of several modalities, one modality after another.

  Args:
    kind: `merged`: all attend to all. `modality_specific`: only to their own modality.
      `coattention`: only to the other modalities. `asymmetric`: tokens of modality `asking` attend to
      the other modalities, all others to their own.
    num_tokens: Tokens of each modality.
    asking: Index of the modality that asks the others; read by `asymmetric` only.

  Raises:
    ValueError: There is no such kind or modality, or a mask needs at least two modalities.
  """
  if kind not in BETWEEN_MODALITIES:
    raise ValueError(
      f"between_modalities: kind={kind!r} is none of {', '.join(BETWEEN_MODALITIES)}."
    )
  if kind in ("coattention", "asymmetric") and len(num_tokens) < 2:
    raise ValueError(
      f"between_modalities: {kind} needs at least 2 modalities; num_tokens={tuple(num_tokens)}."
    )
  if not 0 <= asking < len(num_tokens):
    raise ValueError(
      f"between_modalities: asking={asking}; use 0 to {len(num_tokens) - 1}, one of the modalities."
    )
  modality = np.repeat(np.arange(len(num_tokens)), num_tokens)
  own = modality[:, None] == modality[None]
  if kind == "merged":
    return np.ones_like(own)
  if kind == "modality_specific":
    return own
  return ~own if kind == "coattention" else own ^ (modality == asking)[:, None]


def over_frames(kind: str, num_frames: int, tokens_per_frame: int) -> Mask:
  """Returns the mask over the tokens of a clip, frame after frame.

  Args:
    kind: `joint`: all attend to all. `space_only`: to the tokens of their own frame. `time_only`: to
      the tokens at their own place. `frame_causal` and `time_only_causal`: as `joint` and
      `time_only`, but to no later frame.
    num_frames: Frames of the clip.
    tokens_per_frame: Tokens of each frame.

  Raises:
    ValueError: There is no such kind.
  """
  if kind not in OVER_FRAMES:
    raise ValueError(
      f"over_frames: kind={kind!r} is none of {', '.join(OVER_FRAMES)}; see also frame_window."
    )
  frame, place = np.divmod(np.arange(num_frames * tokens_per_frame), tokens_per_frame)
  allowed = np.ones((frame.size, frame.size), bool)
  if kind == "space_only":
    allowed &= frame[:, None] == frame[None]
  if kind.startswith("time_only"):
    allowed &= place[:, None] == place[None]
  if kind.endswith("causal"):
    allowed &= frame[:, None] >= frame[None]
  return allowed


def frame_window(num_frames: int, tokens_per_frame: int, num_before: int) -> Mask:
  """Returns the mask by which tokens attend to their own frame and `num_before` frames before it.

  Raises:
    ValueError: `num_before` is negative.
  """
  if num_before < 0:
    raise ValueError(f"frame_window: num_before={num_before}; use 0 (the own frame) or more.")
  frame = np.repeat(np.arange(num_frames), tokens_per_frame)
  age = frame[:, None] - frame[None]
  return (0 <= age) & (age <= num_before)


def for_rows(mask: Mask, valid: Bool[Array, "B _"]) -> Bool[Array, "B N N"]:
  """Returns a mask for each row of a batch; tokens that are not valid are no keys.

  Args:
    mask: `[N, N]`, from a function of this module.
    valid: `[B, N]`, True for tokens that exist; their own results are computed in any case.

  Raises:
    ValueError: The mask is of another number of tokens.
  """
  if mask.shape[-1] != valid.shape[-1]:
    raise ValueError(
      f"for_rows: the mask is of {mask.shape[-1]} tokens, but valid has {valid.shape[-1]}."
    )
  return jnp.asarray(mask)[None] & jnp.asarray(valid, bool)[:, None]
