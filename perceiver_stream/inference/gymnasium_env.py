"""Acquisition at a price as a Gymnasium environment, for agents of other libraries.

  env = gymnasium_env.make(streams.countdown.Config(), {"clock": 0.01, "pixels": 0.1})
  observation, _ = env.reset(seed=0)
  observation, reward, ended, _, info = env.step(env.action_space.sample())

Needs the extra `active` (gymnasium); nothing else of the library does.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from perceiver_stream import streams
from perceiver_stream.streams.acquisition import LABEL, Acquisition, Episode, episodes
from perceiver_stream.types import ModalitySpec, valid_key
from perceiver_stream.utils.optional import require

LOGIT_SCALE = 10.0  # the action's scores are in [-1, 1]; agents expect that


def make(
  config: Any, prices: Mapping[str, float], *, num_ticks: int = 16, label: str = LABEL
) -> Any:
  """Returns a `gymnasium.Env` over the episodes of a stream.

  Actions are a dict: `acquire`, MultiBinary, the modalities of the next tick in the order of `prices`,
  and `scores`, Box `[num_classes]` in [-1, 1]: logits over `LOGIT_SCALE`, read at the last tick. Observations are those of
  `streams.acquisition.Acquisition`; `info` has `paid` and, at the end, `label`.

  Args:
    config: Of a stream with a label. `reset(seed=...)` opens it anew, with that seed if it has one.
    prices: Price of a tick of each modality, nats.
    num_ticks: Ticks of an episode.
    label: Key of the class; its largest value is that of the stream's spec.

  Raises:
    ImportError: Gymnasium is not installed.
    ValueError: The stream lacks a modality or the label.
  """
  gym, specs = require("gymnasium", "active"), streams.specs(config)
  missing = sorted({*prices, label} - set(specs))
  if missing:
    raise ValueError(f"gymnasium_env: the stream has no {missing}; it has {sorted(specs)}.")

  def source(seed: int | None) -> Iterator[Episode]:
    chosen = config
    if seed is not None and hasattr(config, "seed"):
      chosen = dataclasses.replace(config, seed=seed % 2**31)
    return episodes(iter(streams.open_rows(chosen)[0]), tuple(prices), num_ticks, label=label)

  classes = int(specs[label].maximum) + 1
  spaces = {
    "observation": _observation_space(gym, specs, prices, num_ticks),
    "action": _action_space(gym, len(prices), classes),
  }
  return _environment(gym, source, spaces, dict(prices), classes)


def _environment(
  gym: Any,
  source: Callable[[int | None], Iterator[Episode]],
  spaces: Mapping[str, Any],
  prices: Mapping[str, float],
  classes: int,
) -> Any:
  class AcquisitionEnv(gym.Env):
    """An `Acquisition` in the interface of Gymnasium."""

    metadata = {"render_modes": []}
    observation_space, action_space = spaces["observation"], spaces["action"]

    def __init__(self) -> None:
      self._inner = Acquisition(source(None), prices, classes)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[dict, dict]:
      """Starts the next episode; with a seed, the first of a new stream."""
      super().reset(seed=seed)
      if seed is not None:
        self._inner = Acquisition(source(seed), prices, classes)
      try:
        return self._inner.reset(), {}
      except StopIteration:
        raise RuntimeError(
          "gymnasium_env: the stream has no further episode; call reset with a seed."
        ) from None

    def step(self, action: Mapping[str, np.ndarray]) -> tuple[dict, float, bool, bool, dict]:
      """Goes to the next tick, or ends the episode."""
      label = self._inner.episode.label
      logits = LOGIT_SCALE * np.asarray(action["scores"], np.float64)
      done = self._inner.step(np.asarray(action["acquire"]) > 0, logits)
      info = {"paid": done.paid} | ({"label": label} if done.ended else {})
      return done.observation, done.reward, done.ended, False, info

  return AcquisitionEnv()


def _observation_space(
  gym: Any, specs: Mapping[str, ModalitySpec], names: Mapping[str, float], num_ticks: int
) -> Any:
  inner: dict[str, Any] = {}
  for name in names:
    spec = specs[name]
    whole = np.issubdtype(np.dtype(spec.dtype), np.integer)
    bounded = spec.minimum < spec.maximum
    low, high = (min(spec.minimum, 0), spec.maximum) if bounded else (-np.inf, np.inf)
    if whole and not bounded:
      low, high = np.iinfo(spec.dtype).min, np.iinfo(spec.dtype).max
    inner[name] = gym.spaces.Box(low, high, spec.shape, np.dtype(spec.dtype))
    inner[valid_key(name)] = gym.spaces.Box(0, 1, (), np.bool_)
  inner["tick"] = gym.spaces.Box(0, num_ticks - 1, (), np.int64)
  return gym.spaces.Dict(inner)


def _action_space(gym: Any, modalities: int, classes: int) -> Any:
  scores = gym.spaces.Box(-1.0, 1.0, (classes,), np.float32)
  return gym.spaces.Dict({"acquire": gym.spaces.MultiBinary(modalities), "scores": scores})
