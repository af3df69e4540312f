"""The film strips of a run as HTML: input, target, prediction and error; see `run_files`."""

import html
import pathlib
from collections.abc import Mapping, Sequence

import jax.numpy as jnp
import numpy as np

from perceiver_stream.modalities import Modality
from perceiver_stream.reporting import images, run_files
from perceiver_stream.reporting.score_keys import (
  MODEL,
  VALID,
  ScoreKey,
  is_score_key,
  pixels_first,
  reference,
)

MAX_TILES = 8
_GREY = 200
_LABEL_PX, _TILE_PX, _SOUND_PX = 110, 120, 240  # widths on the page
_ERROR_DB = 20.0  # of sound, drawn brightest
_LSD = 10 / np.log(10)
_INVERSE_DEPTH = "inverse_depth"  # of the newest images, in the unit of the camera's path

Arrays = Mapping[str, np.ndarray]


def strip_html(paths: Sequence[pathlib.Path], known: Mapping[str, Modality]) -> str:
  """Returns one strip as HTML: a block of images for each output and displacement.

  Args:
    paths: Files of its windows; see `run_files`.
    known: The model's modalities, by name; outputs that are not among them, nor inverse depth of its
      images, are left out.
  """
  try:
    arrays = run_files.read_strip(paths)
  except ValueError as error:
    return f"<p class=note>{html.escape(str(error))}</p>"
  blocks: dict[str, list[str]] = {}
  keys = sorted(map(ScoreKey.parse, filter(is_score_key, arrays)), key=pixels_first)
  for key in keys:
    name = key.output
    if name == _INVERSE_DEPTH and "pixels" in known and "pixels" in arrays:
      rows = _inverse_depth(arrays, known["pixels"], key)
      blocks[name] = [f"<div><h4>inverse depth</h4>{rows}</div>"]
    elif name in known and name in arrays:
      make = _sound if _is_sound(arrays[str(key)], known[name]) else _pictures
      rows = make(arrays, known[name], key)
      title = f"<h4>{html.escape(name)}, {key.displacement} ahead</h4>"
      blocks.setdefault(name, []).append(f"<div>{title}{rows}</div>")
  if not blocks:
    return "<p class=note>This strip holds no prediction that can be shown.</p>"
  return "".join(f"<div class=blocks>{''.join(some)}</div>" for some in blocks.values())


def _is_sound(prediction: np.ndarray, modality: Modality) -> bool:
  return prediction.ndim == 3 and modality.metric_name == "lsd"


def _pictures(arrays: Arrays, modality: Modality, key: ScoreKey) -> str:
  """Returns the rows of an image-like output."""
  predicted = arrays[str(key)]
  num, raw = len(predicted), arrays[modality.name]
  shown = _tiles(num)
  known = np.asarray(modality.target(modality.preprocess(jnp.asarray(raw))))
  targets = known[-num:]
  picture = lambda x: np.stack([modality.picture(one) for one in x])  # noqa: E731
  source = shown + len(raw) - num - key.displacement
  before = picture(known[np.maximum(source, 0)])
  before[source < 0] = _GREY  # the strip does not reach back so far
  rows = {
    "last input frame": before,
    "target": picture(targets[shown]),
    "prediction": picture(predicted[shown]),
  }
  rows |= _motion(arrays.get(str(ScoreKey(f"{key.output}_flow", key.displacement))), shown)
  if before.dtype == np.uint8 and before.shape == targets[shown].shape == predicted[shown].shape:
    rows |= _errors(before / 255.0, targets[shown], predicted[shown])
  return _grid(rows, _captions(arrays, key, shown))


def _tiles(num: int) -> np.ndarray:
  """Returns the ticks that are shown, of `num`."""
  return np.unique(np.linspace(0, num - 1, min(num, MAX_TILES)).round().astype(int))


def _inverse_depth(arrays: Arrays, pixels: Modality, key: ScoreKey) -> str:
  """Returns the rows of estimated inverse depth, and of the true one where the stream has depth.

  Near is bright. The scale of an estimate is free: the true one is scaled to its median.
  """
  num = len(arrays[str(key)])
  shown = _tiles(num)
  newest = lambda name: arrays[name][-num:][shown]  # noqa: E731
  estimate = newest(str(key))
  frames = np.asarray(pixels.target(pixels.preprocess(jnp.asarray(newest("pixels")))))
  high = float(np.quantile(estimate, 0.99))
  rows = {
    "image": np.stack([pixels.picture(one) for one in frames]),
    "estimate": images.heat(estimate, 0.0, high),
  }
  if "depth" in arrays:
    depth = newest("depth")
    true = np.divide(1.0, depth, where=depth > 0, out=np.zeros_like(depth))
    scale = (
      np.median(estimate) / max(float(np.median(true[depth > 0])), 1e-6) if true.any() else 1.0
    )
    rows["truth, scaled"] = images.heat(scale * true, 0.0, high)
  return _grid(rows, _captions(arrays, ScoreKey("depth", key.displacement), shown))


def _errors(before: np.ndarray, target: np.ndarray, predicted: np.ndarray) -> dict[str, np.ndarray]:
  """Returns the error maps of the prediction and of copying, on one scale."""
  full = max(float(np.quantile(np.abs(before - target).mean(axis=-1), 0.995)), 0.02)
  return {
    f"error (to {full:.2f})": images.error_map(predicted, target, full),
    "error of copying": images.error_map(before, target, full),
  }


def _motion(flow: np.ndarray | None, shown: np.ndarray) -> dict[str, np.ndarray]:
  """Returns the row of decoded motion.

  The model predicts backward flow; the row shows forward flow, scaled to the fastest pixels.
  """
  if flow is None:
    return {}
  speed = np.hypot(flow[..., 0], flow[..., 1])
  fastest = max(float(np.nanquantile(speed, 0.99)), 0.1)
  return {f"decoded flow (to {fastest:.1f} px)": images.flow_to_rgb(-flow[shown], fastest)}


def _sound(arrays: Arrays, modality: Modality, key: ScoreKey) -> str:
  """Returns the true spectrogram, the predicted one, and their difference, as rows."""
  predicted = arrays[str(key)]
  raw = arrays[modality.name][-len(predicted) :]
  target = np.asarray(modality.target(modality.preprocess(jnp.asarray(raw))))
  if target.shape != predicted.shape:
    return ""
  flat = [x.reshape(-1, x.shape[-1]) for x in (target, predicted)]
  wrong = np.abs(flat[0] - flat[1]).T[::-1] * _LSD
  low, high = _range(flat[0] * _LSD)
  rows = {
    "true sound": images.spectrogram(flat[0], low, high)[None],
    "predicted": images.spectrogram(flat[1], low, high)[None],
    "difference": images.heat(wrong, 0.0, _ERROR_DB)[None],
  }
  return _grid(rows, [f"{len(predicted)} ticks; {low:.0f} to {high:.0f} dB"], "sound")


def _range(db: np.ndarray) -> tuple[float, float]:
  """Returns the range of a spectrogram in dB: the 1 % and 99 % quantiles, at least 20 dB apart."""
  low, high = np.quantile(db, [0.01, 0.99])
  return float(min(low, high - 20)), float(high)


def _captions(arrays: Arrays, key: ScoreKey, shown: np.ndarray) -> list[str]:
  """Returns a caption for each tile: the model's score and the baseline's."""
  valid = arrays.get(f"{key}/{VALID}", np.ones(shown.max() + 1, bool))
  named = {name.split("/")[1]: name for name in arrays if name.startswith(f"{key}/")}
  copy = arrays.get(named.get(reference(named) or "copy", ""))
  model = arrays.get(f"{key}/{MODEL}")
  if model is None or copy is None:
    return []
  if key.output != "pixels":
    return [f"{model[i]:.3g} <i>({copy[i]:.3g})</i>" if valid[i] else "not scored" for i in shown]
  db = lambda x: -10 * np.log10(max(float(x), 1e-6))  # noqa: E731
  text = "<b class={}>{:.1f}</b> <i>({:.1f})</i>"
  return [
    text.format("good" if model[i] <= copy[i] else "bad", db(model[i]), db(copy[i]))
    if valid[i]
    else "not scored"
    for i in shown
  ]


def _grid(rows: Mapping[str, np.ndarray], captions: list[str], kind: str = "film") -> str:
  """Returns rows of tiles as HTML, with names on the left and captions below."""
  tile = _TILE_PX if kind == "film" else _SOUND_PX
  width = _LABEL_PX + tile * max(map(len, rows.values()))
  parts = []
  for name, tiles in rows.items():
    uri = images.data_uri(images.png_bytes(images.tile_row(tiles, gap=1)))
    parts.append(f'<span>{html.escape(name)}</span><img class={kind} alt="" src="{uri}">')
  if captions:
    cells = "".join(f"<span>{caption}</span>" for caption in captions)
    title = "score (baseline)" if kind == "film" else ""
    parts.append(f"<span>{title}</span><div class=captions>{cells}</div>")
  return f'<div class=strip style="width: {width}px">{"".join(parts)}</div>'
