"""The thread that takes a source's ticks through a session and publishes what viewers show."""

import logging
import threading
import time
from collections import deque
from typing import Any

import numpy as np

from perceiver_stream.reporting.images import flow_to_rgb
from perceiver_stream.serving.hub import Hub
from perceiver_stream.serving.messages import pack
from perceiver_stream.serving.session import Session, View
from perceiver_stream.serving.sources import CAPTURED, Source

logger = logging.getLogger(__name__)

RATE_TICKS = 25  # over which ticks per second are measured
_DB = 10 / np.log(10)
_LOW_DB, _HIGH_DB = -50.0, 0.0  # of the spectrogram's colours


class Engine:
  """Runs a session on a source.

  Attributes:
    session: The session.
    source: Its source.
    hub: Receives a message per tick.
    is_ready: True once the model is compiled.
    ended: Why there are no more ticks; "" while there are.
  """

  def __init__(self, session: Session, source: Source, hub: Hub):
    self.session, self.source, self.hub = session, source, hub
    self.is_ready, self.ended, self._is_stopping = False, "", False
    self._thread = threading.Thread(target=self._run, name="live", daemon=True)
    self._times: deque[float] = deque(maxlen=RATE_TICKS)
    self._fastest_px = 1.0  # scale of the flow's colours

  def start(self) -> None:
    """Starts the thread."""
    self._thread.start()

  def stop(self) -> None:
    """Ends the source, the thread after its tick, and the learner after its window."""
    self._is_stopping = True
    self.source.stop()
    if self._thread.is_alive():
      self._thread.join()
    self.session.close()

  def facts(self) -> dict[str, Any]:
    """Returns facts for a page before its first tick, as JSON values."""
    watcher, camera = self.session.watcher, None
    if self.source.takes_camera:
      source: Any = self.source
      audio = watcher.model.modalities.get("audio")
      camera = {
        "height": source.size[0],
        "width": source.size[1],
        "rate_hz": source.rate_hz,
        "samples": source.num_samples,
        "audio_rate_hz": audio.spec.rate_hz if audio and source.num_samples else 0,
      }
    learner = self.session.learner
    return {
      "about": self.session.about,
      "source": self.source.about,
      "displacements": list(watcher.displacements),
      "outputs": self.session.metric_names,
      "can_track": watcher.can_track,
      "can_learn": learner is not None,
      "camera": camera,
      "is_ready": self.is_ready,
      "ended": self.ended,
      "curve": _thinned(self.session.curves.points),
    }

  def _run(self) -> None:
    try:
      if not self.session.ticks:
        self.session.warm_up()
      self.is_ready = True
      self.hub.publish(pack({"kind": "ready"}, {}))
      for tick in self.source.ticks():
        captured_s = float(tick.get(CAPTURED, time.time()))
        view = self.session.observe(tick, self.source.dropped)
        self._times.append(time.monotonic())
        self.hub.publish(self._message(view, captured_s))
      self.ended = f"{self.source.about} has ended."
    except Exception as error:
      if not self._is_stopping:
        logger.exception("live: the stream ended with an error")
      self.ended = f"{self.source.about}: {error}"
    header = {"kind": "end", "why": self.ended}
    self.hub.publish(pack(header, {}))

  def _rate_hz(self) -> float:
    passed = self._times[-1] - self._times[0] if self._times else 0.0
    return (len(self._times) - 1) / passed if passed > 0 else 0.0

  def _message(self, view: View, captured_s: float) -> bytes:
    """Returns the message of a tick."""
    session, progress = self.session, view.progress
    header = {
      "kind": "tick",
      "tick": view.tick,
      "captured_s": _finite(captured_s),
      "time_s": _finite(view.time_s),
      "is_first": view.is_first,
      "known": view.known.tolist(),
      "rate_hz": round(self._rate_hz(), 2),
      "step_ms": round(view.step_ms, 2),
      "dropped": self.source.dropped,
      "errors": {
        key: {who: _finite(x) for who, x in row.items()} for key, row in view.scores.items()
      },
      "scores": session.curves.running.means,
      "is_learning": session.is_learning,
      "learning_rate": session.learner.learning_rate if session.learner else None,
      "updates": progress.updates,
      "missed": session.learner.pace.watched if session.learner else 0,
      "learned_of": session.learner.pace.every if session.learner else 1,
      "loss": _finite(progress.loss),
      "problem": session.learner.problem if session.learner else "",
      "points": _points(view),
    }
    return pack(header, self._arrays(view, header))

  def _arrays(self, view: View, header: dict[str, Any]) -> dict[str, np.ndarray]:
    """Returns the images of a tick; numbers that belong to them are added to the header."""
    arrays: dict[str, np.ndarray] = {}
    results, outputs = view.results, self.session.watcher.outputs
    if view.frame is not None:
      arrays["input"] = view.frame
    if "pixels" in outputs:
      arrays["predicted"] = np.stack(
        [outputs["pixels"].picture(x) for x in results.predicted["pixels"]]
      )
    if results.flow is not None:
      fastest = float(np.percentile(np.hypot(*np.moveaxis(results.flow, -1, 0)), 99))
      self._fastest_px = max(0.25, fastest, 0.95 * self._fastest_px)
      arrays["flow"] = flow_to_rgb(results.flow, self._fastest_px)
      header["flow_px"] = round(self._fastest_px, 3)
    if results.latents is not None:
      arrays["latents"] = np.where(
        results.latents.visible[:, None], results.latents.position, np.float32(np.nan)
      ).astype(np.float32)
    if view.owners is not None:
      arrays["owners"] = view.owners
    if "audio" in outputs and outputs["audio"].metric_name == "lsd":
      arrays["heard"] = _levels(results.target["audio"])
      arrays["predicted_sound"] = _levels(results.predicted["audio"])
    return arrays


def _levels(log_mel: np.ndarray) -> np.ndarray:
  """Returns log-mel energies as uint8 between `_LOW_DB` and `_HIGH_DB`."""
  share = (log_mel * _DB - _LOW_DB) / (_HIGH_DB - _LOW_DB)
  return np.round(255 * np.clip(np.nan_to_num(share), 0, 1)).astype(np.uint8)


def _points(view: View) -> list[dict[str, Any]]:
  """Returns the tracked points as JSON."""
  if view.results.points is None:
    return []
  position, visible = view.results.points
  return [
    {
      "id": point,
      "x": float(position[i, 0]),
      "y": float(position[i, 1]),
      "visible": bool(visible[i]),
    }
    for i, point in enumerate(view.points)
    if point and np.isfinite(position[i]).all()
  ]


def _thinned(points: list[dict[str, Any]], most: int = 256) -> list[dict[str, Any]]:
  """Returns at most `most` points of a curve, evenly."""
  every = -(-len(points) // most) or 1
  return points[::every]


def _finite(value: float) -> float | None:
  return float(value) if np.isfinite(value) else None
