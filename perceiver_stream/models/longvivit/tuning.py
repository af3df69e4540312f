"""Parts of the parameters that are trained, and parameters from those of images or shorter clips."""

import re

import haiku as hk
import numpy as np
from jaxtyping import PyTree

from perceiver_stream.models.longvivit.config import Config
from perceiver_stream.models.longvivit.network import NAME
from perceiver_stream.models.vivit.positions import interpolated
from perceiver_stream.nn.conv3d import inflate

KINDS = ("all", "last_layers", "adapters", "lora", "temporal")
_INPUT = (
  rf"{NAME}/(tubelets/.*|positions)"  # the 3-D patches are always trained, but for the last layers
)
_PATTERNS = {
  "all": ".*",
  "adapters": rf"{_INPUT}|.*/adapter/.*",
  "lora": rf"{_INPUT}|.*/lora_(down|up)",
  "temporal": rf"{_INPUT}|.*/time(_norm|_gate)?/.*",
}


def split_params(
  params: PyTree, kind: str, config: Config, *, num_last: int = 4
) -> tuple[PyTree, PyTree]:
  """Returns the trained and the frozen parameters; `hk.data_structures.merge` joins them.

  Args:
    params: Of both towers.
    kind: `"all"`; `"last_layers"`: the last blocks of the video tower with its norm and projection;
      `"adapters"`, `"lora"`, `"temporal"`: these layers, and the tubelets with their positions.
    config: Sizes.
    num_last: Blocks that `"last_layers"` trains; 4 as published.

  Raises:
    ValueError: There is no such kind, or the model has no such layers.
  """
  if kind not in KINDS:
    raise ValueError(f"split_params: kind={kind!r} is none of {', '.join(KINDS)}.")
  last = range(max(config.num_layers - num_last, 0), config.num_layers)
  blocks = "|".join(map(str, last))
  layers = rf"{NAME}/(block_({blocks})/.*|norm/.*|projection/.*)"
  pattern = re.compile(layers if kind == "last_layers" else _PATTERNS[kind])
  is_trained = lambda module, name, _: bool(pattern.fullmatch(f"{module}/{name}"))  # noqa: E731
  trained, frozen = hk.data_structures.partition(is_trained, params)
  fields = {"adapters": "adapter_dim", "lora": "lora_rank"}
  if kind in fields and not getattr(config, fields[kind]):
    raise ValueError(f"split_params: kind={kind!r}, but {fields[kind]}=0; use 1 or more.")
  if kind == "temporal" and config.attention != "factorised":
    raise ValueError(
      f"split_params: kind='temporal', but attention={config.attention!r} has no layers over time; use "
      f"'factorised'."
    )
  return trained, frozen


def inserted(params: PyTree, into: PyTree) -> PyTree:
  """Returns `into` with the arrays of `params` under the same names; new layers keep their own.

  So the weights of a smaller model enter one with adapters, LoRA or layers over time. Positions in
  time are interpolated along time if the clips have another length.

  Raises:
    ValueError: An array has another shape, or no place in `into`.
  """
  result = {module: dict(leaves) for module, leaves in into.items()}
  given = [f"{module}/{name}" for module, leaves in params.items() for name in leaves]
  if lost := [x for x in given if x.rpartition("/")[2] not in result.get(x.rpartition("/")[0], {})]:
    raise ValueError(
      f"inserted: {len(lost)} of {len(given)} arrays, such as {lost[0]}, have no place in the model; give "
      f"the weights of a LongViViT with no other layers."
    )
  for module, leaves in params.items():
    for name, value in leaves.items():
      old = result[module][name]
      if name == "positions" and old.shape[1:] == value.shape[1:] and module == NAME:
        grid = value.shape[:3], old.shape[:3]
        value = interpolated(np.asarray(value).reshape(-1, value.shape[-1]), *grid)
        value = value.reshape(old.shape)
      if value.shape != old.shape:
        raise ValueError(
          f"inserted: {module}/{name} is {list(value.shape)}, but the model needs {list(old.shape)}; give "
          f"weights of the same dim, layers and patches."
        )
      result[module][name] = value
  return result


def from_images(params: PyTree, config: Config) -> PyTree:
  """Returns parameters whose video path starts from the image path.

  The kernel of the tubelets is the image's, repeated over time and divided by the number of frames, so
  that a still clip has the image's tokens; positions are repeated; layers over time are copies of
  those over space, behind closed gates.
  """
  result = {module: dict(leaves) for module, leaves in params.items()}
  patches = result[f"{NAME}/image_patches"]
  kernel = inflate(patches["w"][0], config.patch_frames)
  result[f"{NAME}/tubelets"] = {"w": kernel, "b": patches["b"]}
  own, table = result[NAME], result[NAME]["image_positions"]
  own["positions"] = np.repeat(np.asarray(table), own["positions"].shape[0], axis=0)
  for module in params:
    if match := re.fullmatch(rf"({NAME}/block_\d+)/time(_norm|/.*)", module):
      result[module] = dict(params[f"{match[1]}/attention{match[2]}"])
    elif module.endswith("/time_gate"):
      result[module] = {name: np.zeros_like(x) for name, x in params[module].items()}
  return result
