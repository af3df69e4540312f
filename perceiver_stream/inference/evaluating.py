"""Scores of a fixed model over a stream, and of the baselines."""

import itertools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from perceiver_stream.reporting.score_keys import COUNT, MODEL, PSNR, ScoreKey
from perceiver_stream.reporting.scores import Scores, joined, window_scores
from perceiver_stream.training.loop import visible
from perceiver_stream.training.parts import Parts


def evaluate(parts: Parts, params: PyTree, max_windows: int = 0) -> Scores:
  """Returns the mean error of every predictor at every displacement, over the whole stream.

  The model observes the stream in order and carries its state, as in `train`, without updates.

  Args:
    parts: Model, objective, windows and baselines.
    params: Of the model.
    max_windows: Windows to evaluate; 0 is all.
  """

  params = jax.tree.map(jnp.asarray, params)  # constants of the program below

  @jax.jit
  def look(state: PyTree, window: Mapping[str, jax.Array], key: jax.Array) -> tuple[PyTree, Any]:
    _, aux = parts.objective.loss(params, state, window, key)
    return aux.next_state, aux.scores

  state = parts.objective.initial_state(params, batch_size=parts.config.num_rows)
  collected: dict[str, dict[str, list[np.ndarray]]] = {}
  for number, window in enumerate(itertools.islice(parts.windows, max_windows or None)):
    key = jax.random.key(number)  # random targets are the same for every model
    state, scores = look(state, visible(window, parts.observation), key)
    more = parts.baselines(window) if parts.baselines else {}
    for name, score in jax.device_get(scores).items():
      for predictor, errors in joined(score.errors(), more.get(name, {})).items():
        collected.setdefault(name, {}).setdefault(predictor, []).append(np.asarray(errors))
  keys = sorted(collected, key=ScoreKey.parse)
  whole = {k: {n: np.concatenate(e) for n, e in collected[k].items()} for k in keys}
  return window_scores(whole, parts.metric_names)


def table(scores: Scores, metric_names: Mapping[str, str]) -> str:
  """Returns the scores as a Markdown table: PSNR for images (higher is better), else errors."""
  predictors = list(
    dict.fromkeys(n for row in scores.values() for n in row if n != COUNT and not n.endswith(PSNR))
  )
  lines = [["", "metric", "ticks", *predictors]]
  for key, row in scores.items():
    metric = metric_names.get(ScoreKey.parse(key).output, "error")
    suffix = PSNR if MODEL + PSNR in row else ""
    name = "PSNR dB, higher is better" if suffix else f"{metric}, lower is better"
    values = [row.get(p + suffix) for p in predictors]
    known = [value for value in values if value is not None]
    best = (max if suffix else min)(known, default=None)
    cells = [f"**{_number(v)}**" if v is not None and v == best else _number(v) for v in values]
    lines.append([key, name, str(row[COUNT]), *cells])
  widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
  lines.insert(1, ["-" * width for width in widths])
  padded = ([cell.ljust(w) for cell, w in zip(line, widths, strict=True)] for line in lines)
  return "\n".join(f"| {' | '.join(cells)} |" for cells in padded)


def _number(value: float | int | None) -> str:
  return "" if value is None else f"{value:.4g}"
