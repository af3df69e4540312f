"""Read-outs of MooG's released file: trackers of points and boxes in a clip."""

import pathlib
import re
from typing import NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PyTree, UInt8

from perceiver_stream.files import array_files
from perceiver_stream.models import mapping as translation
from perceiver_stream.models.moog import weights as moog_weights
from perceiver_stream.models.moog.readouts import ClipConfig, ClipReadout, Points, as_points
from perceiver_stream.utils.paths import user_path

_LAST = "attention_readout/Dense_2/kernel"


class Head(NamedTuple):
  """A read-out with its parameters.

  Attributes:
    config: Sizes, inferred from the file.
    params: Parameters.
  """

  config: ClipConfig
  params: PyTree

  def __call__(
    self, features: Float[Array | np.ndarray, "B T L D"], queries: Float[np.ndarray, "B Q d"]
  ) -> Float[Array, "B T Q K"]:
    """Returns raw outputs for every frame and query; see `models.moog.readouts.ClipReadout`."""
    readout = hk.transform(lambda *a: ClipReadout(self.config, name="head")(*a))
    return readout.apply(self.params, None, *map(jnp.asarray, (features, queries)))

  def points(
    self, features: Float[Array | np.ndarray, "B T L D"], queries: Float[np.ndarray, "B Q 2"]
  ) -> Points:
    """Returns tracks of points, for a head of points; queries (x, y) in [0, 1] at frame 0."""
    return as_points(self(features, queries))


def load_head(path: str | pathlib.Path, kind: str) -> Head:
  """Returns a read-out of a flat `.npz` file.

  Args:
    path: Of the file.
    kind: `"points"` (decoded in segments of the clip) or `"boxes"` (decoded at once).

  Raises:
    FileNotFoundError: There is no such file.
    ValueError: The file has no such read-out, or one of its arrays does not fit.
  """
  path = user_path(path)
  if not path.is_file():
    raise FileNotFoundError(f"moog: there is no file {path}; check the path.")
  flat = array_files.read_npz(path)
  found = {}
  for name in flat:
    if name.endswith(_LAST):
      prefix = name.removesuffix(f"/{_LAST}")
      tiles = flat.get(f"{prefix}/temporal_tile_posenc/embeddings")
      found["boxes" if tiles is None else "points"] = prefix
  if kind not in found:
    raise ValueError(f"{path}: no read-out of {kind}; it has {sorted(found) or 'none'}.")
  prefix = found[kind]
  config, width = _config(flat, prefix)
  own = {name: x for name, x in flat.items() if re.match(f"{re.escape(prefix)}/", name)}
  queries = jax.ShapeDtypeStruct((1, 1, 2 if kind == "points" else 4), np.float32)
  features = jax.ShapeDtypeStruct((1, config.num_frames, 1, width), np.float32)
  init = hk.transform(lambda *a: ClipReadout(config, name="head")(*a)).init
  template = jax.eval_shape(init, jax.random.key(0), features, queries)
  rules = moog_weights.clip_readout("head", prefix, config)
  params = translation.import_params(own, template, rules, source=str(path))
  return Head(config, jax.tree.map(jnp.asarray, params))


def _config(flat: array_files.Flat, prefix: str) -> tuple[ClipConfig, int]:
  """Returns the sizes of a read-out, and the width of the features it reads."""
  tiles = flat.get(f"{prefix}/temporal_tile_posenc/embeddings")
  frames = max(flat[f"{prefix}/attention_readout/temporal_posenc/embeddings"].shape[:-1])
  width, heads, per_head = flat[f"{prefix}/attention_readout/key_embedding/kernel"].shape
  first = next(x for n, x in flat.items() if re.match(_first(prefix), n))
  per_query = frames // (1 if tiles is None else tiles.shape[0])
  config = ClipConfig(
    num_frames=frames,
    frames_per_query=per_query,
    channels=flat[f"{prefix}/{_LAST}"].shape[-1] // per_query,
    dim=heads * per_head,
    num_heads=heads,
    query_dim=first.shape[-1],
    num_octaves=first.shape[0] // (2 * (4 if tiles is None else 2)),
  )
  return config, width


def _first(prefix: str) -> str:
  return rf"{re.escape(prefix)}/query_initializer/layers_1/Dense_0/kernel"


def draw(
  frames: UInt8[np.ndarray, "T H W 3"],
  positions: Float[np.ndarray, "T Q 2"],
  visible: Bool[np.ndarray, "T Q"],
) -> UInt8[np.ndarray, "T H W 3"]:
  """Returns frames with a square on every visible point, (x, y) in [0, 1]; one colour each."""
  drawn = frames.copy()
  height, width = frames.shape[1:3]
  colours = np.asarray([[255, 60, 60], [60, 255, 60], [80, 140, 255], [255, 230, 40]], np.uint8)
  radius = max(1, height // 100)
  for t, q in zip(*np.nonzero(visible), strict=True):
    x, y = (int(p * size) for p, size in zip(positions[t, q], (width, height), strict=True))
    rows = slice(max(0, y - radius), max(0, y + radius + 1))
    drawn[t, rows, max(0, x - radius) : max(0, x + radius + 1)] = colours[q % len(colours)]
  return drawn
