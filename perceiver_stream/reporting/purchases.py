"""Tables of what an agent bought when: a row for each episode, a column for each tick.

In a strip (see `run_files`), `[T, N]` of N episodes: `bought_<modality>@0` and `price_<modality>@0` of each
modality, `episode_label@0` and `episode_guess@0`.
"""

import html
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from perceiver_stream.reporting.page import PAGE
from perceiver_stream.reporting.score_keys import ScoreKey, is_score_key
from perceiver_stream.utils import atomic

BOUGHT, PRICE, LABELS, GUESSES = "bought_", "price_", "episode_label", "episode_guess"

COLOURS = ("#2563eb", "#d97706", "#15803d", "#b91c1c", "#7c3aed", "#0e7490")  # in turns
_NOTHING = "#f3f4f6"


def table(
  bought: Bool[np.ndarray, "T N M"],
  names: Sequence[str],
  labels: Int[np.ndarray, " N"],
  predicted: Int[np.ndarray, " N"],
  marks: Bool[np.ndarray, "T N"] | None = None,
  prices: Float[np.ndarray, "N M"] | None = None,
) -> str:
  """Returns an HTML table of episodes.

  Args:
    bought: Modalities acquired at each tick.
    names: Of the modalities, M.
    labels: Class of each episode.
    predicted: Class with the highest score after its last tick.
    marks: Ticks to be marked with a dot, such as those that mattered.
    prices: Of a tick of each modality, nats, where episodes differ.
  """
  times = range(bought.shape[0])
  heading = "".join(f"<th>{t}</th>" for t in times)
  price = "" if prices is None else "<th>price</th>"
  rows = [f"<tr><th>episode</th><th></th>{price}{heading}<th>label</th><th>predicted</th></tr>"]
  for n in range(bought.shape[1]):
    for m, name in enumerate(names):
      cells = "".join(_cell(bool(bought[t, n, m]), m, _mark(marks, t, n)) for t in times)
      kind = "good" if labels[n] == predicted[n] else "bad"
      ends = (
        f"<td>{labels[n]}</td><td class='{kind}'>{predicted[n]}</td>" if m == 0 else "<td/><td/>"
      )
      first = f"<th>{n}</th>" if m == 0 else "<th></th>"
      price = "" if prices is None else f"<td>{prices[n, m]:.3g}</td>"
      rows.append(f"<tr>{first}<th>{html.escape(name)}</th>{price}{cells}{ends}</tr>")
  return f"<table>{''.join(rows)}</table>"


def of_strip(arrays: Mapping[str, np.ndarray]) -> str:
  """Returns the table of a strip's episodes, in order of their prices; "" if it has none."""
  found = {ScoreKey.parse(key).output: x for key, x in arrays.items() if is_score_key(key)}
  names = [name.removeprefix(BOUGHT) for name in found if name.startswith(BOUGHT)]
  if not names or not {LABELS, GUESSES, *(PRICE + name for name in names)} <= set(found):
    return ""
  together = lambda prefix: np.stack([found[prefix + name] for name in names], axis=-1)  # noqa: E731
  bought, prices = together(BOUGHT).astype(bool), together(PRICE)[-1]
  order = np.argsort(prices.sum(axis=-1), kind="stable")
  labels, guesses = (found[name][-1][order].astype(int) for name in (LABELS, GUESSES))
  return table(bought[:, order], names, labels, guesses, prices=prices[order])


def _mark(marks: Bool[np.ndarray, "T N"] | None, tick: int, row: int) -> str:
  return "•" if marks is not None and marks[tick, row] else ""


def _cell(is_bought: bool, number: int, mark: str) -> str:
  colour = COLOURS[number % len(COLOURS)] if is_bought else _NOTHING
  return f"<td style='background:{colour};text-align:center'>{mark}</td>"


def write(path: pathlib.Path, title: str, sections: Sequence[tuple[str, str]]) -> None:
  """Writes a page of titled tables; see `table`."""
  body = "".join(
    f"<section><h2>{html.escape(name)}</h2>{content}</section>" for name, content in sections
  )
  path.parent.mkdir(parents=True, exist_ok=True)
  page = PAGE.substitute(title=html.escape(title), facts="", body=body)
  atomic.write_text(path, page)
