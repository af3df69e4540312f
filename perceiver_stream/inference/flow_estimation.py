"""Optical flow of image pairs and videos of any size, by any model that predicts flow."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree, UInt8

from perceiver_stream import zoo
from perceiver_stream.evaluation import optical_flow
from perceiver_stream.evaluation.metrics import flow as flow_metric
from perceiver_stream.evaluation.metrics import image as image_metric
from perceiver_stream.inference.model_loading import Loaded
from perceiver_stream.models import stream_perceiver
from perceiver_stream.models.base import Model
from perceiver_stream.models.frame_predictors import video_autoencoder
from perceiver_stream.models.perceiver_io import flow as perceiver_flow
from perceiver_stream.streams.base import TIMESTAMP
from perceiver_stream.utils import moved

EXPECTED = "pixels_flow"  # name of predicted backward flow among the outputs


class Pair(NamedTuple):
  """Two successive frames of a video, and the flow from the first to the second.

  Attributes:
    first: RGB.
    second: RGB.
    flow: In pixels.
    times_s: Of both on the stream's clock; zeros for images without a time.
  """

  first: UInt8[np.ndarray, "H W 3"]
  second: UInt8[np.ndarray, "H W 3"]
  flow: Float[np.ndarray, "H W 2"]
  times_s: tuple[float, float] = (0.0, 0.0)


def gives_flow(model: Model) -> str:
  """Returns `"pair"` for models of two frames, `"stream"` for models that predict coming motion.

  Raises:
    ValueError: The model does neither.
  """
  if isinstance(model.config, perceiver_flow.Config):
    return "pair"
  if isinstance(model.config, stream_perceiver.Config) and "pixels" in model.modalities:
    if model.modalities["pixels"].config.use_output:
      return "stream"
  if isinstance(model.config, video_autoencoder.Config) and model.config.warps:
    return "stream"
  family = zoo.family(model.config).name
  raise ValueError(
    f"flow: a {family} gives no flow; use a perceiver_flow, a video_autoencoder that warps, or a "
    f"stream_perceiver that predicts pixels."
  )


def flow_displacement(model: Model) -> int:
  """Returns the displacement at which a model predicts coming motion: its smallest above 0.

  Raises:
    ValueError: It has none: at displacement 0 a model reconstructs what it has observed.
  """
  coming = [d for d in model.displacements if d > 0]
  if not coming:
    raise ValueError(
      f"flow: the model predicts no coming motion, its displacements are {model.displacements}; "
      f"use one with a displacement of 1 or more."
    )
  return min(coming)


def tile_flow(
  model: Model, params: PyTree
) -> Callable[[Float[np.ndarray, "B 2 h w 3"]], Float[Array, "B h w 2"]]:
  """Returns a function from two frames in [-1, 1], of the model's size, to flow in pixels."""
  pixels, start = model.modalities["pixels"], model.initial_state(params)
  scale, yes = model.modalities["flow"].config.scale, jnp.ones(1, bool)

  def flow(frames: np.ndarray) -> Array:
    first, second = (jnp.asarray((frames[:, i] + 1) / 2, jnp.float32) for i in (0, 1))
    # The first frame only enters the memory: observing it would cost an encoder pass.
    seen = pixels.remember(start.memory["pixels"], first, yes, yes)
    state = start._replace(memory={**start.memory, "pixels": seen})
    _, state = model.observe(params, state, {"pixels": second[None]})
    return model.predict(params, state, (0,))["flow"][:, 0] * scale

  return flow


def flow_between(
  model: Model,
  params: PyTree,
  first: UInt8[np.ndarray, "H W 3"],
  second: UInt8[np.ndarray, "h w 3"],
  *,
  overlap: int = 20,
  fewest: bool = False,
) -> Float[np.ndarray, "H W 2"]:
  """Returns the flow from one image to another, of any size.

  Images larger than the model's are processed in overlapping tiles. Images smaller than a tile
  along either side are enlarged first, and their flow is resized back.

  Args:
    model: A `perceiver_flow`.
    params: Of the model.
    first: RGB.
    second: RGB of the same size.
    overlap: Least overlap of neighbouring tiles, pixels.
    fewest: Use the fewest tiles that still overlap instead of those of the released colab.

  Raises:
    ValueError: The images differ in size, or the model is no `perceiver_flow`.
  """
  if gives_flow(model) != "pair":
    raise ValueError(
      "flow_between: this model predicts motion from earlier frames; give it a video, or use a "
      "perceiver_flow for two images."
    )
  if first.shape != second.shape:
    raise ValueError(
      f"flow_between: the first image is {first.shape[1]}×{first.shape[0]}, the second "
      f"{second.shape[1]}×{second.shape[0]}; make them the same size."
    )
  tile, size = (model.config.height, model.config.width), first.shape[:2]
  factor = max(1.0, tile[0] / size[0], tile[1] / size[1])
  larger = tuple(max(t, round(s * factor)) for t, s in zip(tile, size, strict=True))
  frames = np.stack([_resized(x, larger, cubic=True) for x in (first, second)])
  frames = (frames.astype(np.float32) / 127.5 - 1)[None]
  overlap = min(overlap, min(tile) // 2)
  found = perceiver_flow.tiled_flow(
    tile_flow(model, params), frames, tile, overlap=overlap, fewest=fewest
  )
  return resized_flow(found[0], size)


def resized_flow(
  flow: Float[np.ndarray, "H W 2"], size: tuple[int, ...]
) -> Float[np.ndarray, "h w 2"]:
  """Returns a flow resized to another size of the images, in pixels of that size."""
  scale = np.asarray([size[1] / flow.shape[1], size[0] / flow.shape[0]], np.float32)
  return _resized(flow, size) * scale


def flows_of(
  loaded: Loaded, ticks: Iterator[Mapping[str, Any]], *, overlap: int = 20, fewest: bool = False
) -> Iterator[Pair]:
  """Yields successive frames of a stream with the flow between them.

  A `perceiver_flow` compares the two frames. Other models predict the motion from the first frame
  on, before they observe the second.

  Args:
    loaded: Model and parameters.
    ticks: Of a stream, with `pixels` and `timestamp_s`; pairs across recordings are left out.
    overlap: See `flow_between`.
    fewest: See `flow_between`.
  """
  expects = gives_flow(loaded.model) == "stream"
  expected = _expectation(loaded) if expects else None
  before: np.ndarray | None = None
  before_s = 0.0
  motion: np.ndarray | None = None
  for tick in ticks:
    pixels, time_s = np.asarray(tick["pixels"]), float(tick[TIMESTAMP])
    if before is not None and not tick["is_first"]:
      if motion is None:
        options: dict[str, Any] = {"overlap": overlap, "fewest": fewest}
        flow = flow_between(loaded.model, loaded.params, before, pixels, **options)
      else:
        flow = motion
      yield Pair(before, pixels, flow, (before_s, time_s))
    motion = expected(tick) if expected else None
    before, before_s = pixels, time_s


def _expectation(loaded: Loaded) -> Callable[[Mapping[str, Any]], np.ndarray]:
  """Returns a function of successive ticks: the predicted flow until the next tick."""
  model, params = loaded.model, loaded.params
  size, ahead = model.modalities["pixels"].spec.shape[:2], flow_displacement(model)
  index = model.displacements.index(ahead)
  state = model.initial_state(params)

  def expect(tick: Mapping[str, Any]) -> np.ndarray:
    nonlocal state
    seen = {"pixels": _resized(tick["pixels"], size)[None], "is_first": tick["is_first"][None]}
    outputs, state = model.step(params, state, seen)
    back = np.asarray(outputs.predictions[EXPECTED])[0, index]  # backward flow
    return resized_flow(-back / ahead, tick["pixels"].shape[:2])

  return expect


def _resized(picture: np.ndarray, size: tuple[int, ...], *, cubic: bool = False) -> np.ndarray:
  if picture.shape[:2] == tuple(size):
    return np.asarray(picture)
  cv2 = optical_flow.opencv()
  smaller = size[0] * size[1] < picture.shape[0] * picture.shape[1]
  how = cv2.INTER_AREA if smaller else cv2.INTER_CUBIC if cubic else cv2.INTER_LINEAR
  return cv2.resize(picture, (size[1], size[0]), interpolation=how)


# --- scores ---------------------------------------------------------------------------------------


def baseline_flows(pair: Pair) -> dict[str, Float[np.ndarray, "H W 2"]]:
  """Returns the flow of the model, zero flow, and DIS flow, by name."""
  return {
    "model": pair.flow,
    "zero": np.zeros_like(pair.flow),
    "DIS": optical_flow.dis_flow(pair.first, pair.second),
  }


def warp_psnr(pair: Pair) -> dict[str, float]:
  """Returns the PSNR of the second frame warped back along each flow, against the first, in dB.

  No ground truth is needed. Occluded regions cannot be rebuilt, so the best flow does not always
  have the highest PSNR. Keys are those of `baseline_flows`.
  """
  grid = optical_flow.pixel_grid(*pair.first.shape[:2])
  first, second = (x.astype(np.float32) for x in (pair.first, pair.second))
  rebuilt = {
    n: optical_flow.sample(second, grid + flow) for n, flow in baseline_flows(pair).items()
  }
  return {n: float(image_metric.psnr(x, first, 255.0)) for n, x in rebuilt.items()}


def end_point_errors(pair: Pair, truth: Float[np.ndarray, "H W 2"]) -> dict[str, float]:
  """Returns the mean end-point error of each flow in pixels, where the truth is known.

  Raises:
    ValueError: The truth has another size.
  """
  if truth.shape != pair.flow.shape:
    raise ValueError(
      f"flow: the truth is {truth.shape[1]}×{truth.shape[0]}, the images are "
      f"{pair.flow.shape[1]}×{pair.flow.shape[0]}; give the truth of these images."
    )
  valid = np.asarray(np.isfinite(truth).all(axis=-1))
  target = np.where(valid[..., None], truth, 0.0)
  score = lambda flow: flow_metric.scores(target[None], flow[None], valid[None])  # noqa: E731
  return {name: score(flow)["epe_mean_over_images"] for name, flow in baseline_flows(pair).items()}


__getattr__ = moved.renamed_names(
  __name__,
  {
    "rebuilt_psnr": "inference.flow_estimation.warp_psnr",
    "rivals": "inference.flow_estimation.baseline_flows",
  },
)
