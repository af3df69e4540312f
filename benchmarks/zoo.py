"""The published models at published size with random weights: compile time, time, peak memory.

  python benchmarks/zoo.py

Peers: the Hugging Face port of flow and autoencoder in torch with as many threads (extra `parity`;
without it those rows are left out), and for MooG and RVM a Python loop over the ticks that stores
everything, as the released code does. Every row is measured in an own process.
"""

import dataclasses
import importlib.util
import os
from collections.abc import Callable
from typing import Any

import common
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np

import perceiver_stream
from perceiver_stream.models import moog_model, perceiver_autoencoder, perceiver_flow, rvm_model
from perceiver_stream.models.base import Model
from perceiver_stream.nn import attention

OURS, PORT = "perceiver_stream", "Hugging Face, torch"
CHUNKS = 128  # in which the released colab and the port decode a clip


def peak_bytes() -> int:
  """Returns the most memory that this process has held, imports and compiling included."""
  return common.Peak._highest()


def timed(call: Callable[[], Any], repeats: int) -> dict[str, float]:
  """Returns the medians of the clock and the processor, and the peak of the process."""
  seconds = common.medians({"it": call}, repeats)["it"]
  return {"wall": seconds.wall, "cpu": seconds.cpu, "peak": peak_bytes()}


def pictures(*shape: int) -> np.ndarray:
  """Returns noise in [0, 1]."""
  return np.random.default_rng(0).uniform(0, 1, shape).astype(np.float32)


# --- the feed-forward Perceivers --------------------------------------------------------------------


def inputs_of(config: Any) -> Any:
  """Returns what the network is called with: two frames, or a clip."""
  if isinstance(config, perceiver_flow.Config):
    return 2 * pictures(1, 2, config.height, config.width, config.channels) - 1
  return {
    "image": pictures(1, config.num_frames, config.height, config.width, config.channels),
    "audio": 2 * pictures(1, config.samples, 1) - 1,
    "label": np.zeros((1, config.num_classes), np.float32),
  }


def ours(name: str, repeats: int, written_out: bool) -> dict[str, float]:
  """Returns what a forward pass takes; `written_out` leaves out our shortcuts."""
  config, inputs = perceiver_stream.config(name), inputs_of(perceiver_stream.config(name))
  if written_out:
    attention.TILE_BYTES = 2**62
    hk.running_init = lambda: True
  is_flow = isinstance(config, perceiver_flow.Config)
  make = perceiver_flow.FlowPerceiver if is_flow else perceiver_autoencoder.Autoencoder
  network = hk.without_apply_rng(hk.transform(lambda x: make(config)(x)))
  params = jax.jit(network.init)(jax.random.PRNGKey(0), inputs)
  found = common.program(network.apply, params, inputs)
  measured = timed(lambda: found.call(params, inputs), repeats)
  return measured | {"compile": found.trace_s + found.compile_s, "temp": found.temp_bytes}


def port(name: str, repeats: int) -> dict[str, float]:
  """Returns what a forward pass of the Hugging Face port takes; of a clip, one chunk of it."""
  import torch
  import transformers

  torch.set_num_threads(len(os.sched_getaffinity(0)))
  config, inputs = perceiver_stream.config(name), inputs_of(perceiver_stream.config(name))
  e = config.encoder
  sizes = {
    "num_latents": e.num_latents, "d_latents": e.latent_dim, "num_blocks": 1,
    "num_self_attends_per_block": e.num_layers, "num_self_attention_heads": e.num_self_heads,
    "num_cross_attention_heads": 1,
  }  # fmt: skip
  if isinstance(config, perceiver_flow.Config):
    size = [config.height, config.width]
    about = transformers.PerceiverConfig(**sizes, d_model=322, train_size=size)
    model = transformers.PerceiverForOpticalFlow(about).eval()
    patches = np.asarray(perceiver_flow.neighbourhoods(jnp.asarray(inputs)))
    given = {"inputs": torch.tensor(patches.transpose(0, 1, 4, 2, 3))}
  else:
    about = transformers.PerceiverConfig(
      **sizes, d_model=704, num_frames=config.num_frames, num_labels=config.num_classes,
      audio_samples_per_frame=config.samples // config.num_frames, image_size=56,
      output_shape=[1, config.num_frames, config.height, config.width],
    )  # fmt: skip
    model = transformers.PerceiverForMultimodalAutoencoding(about).eval()
    shapes = {n: int(np.prod(config.query_shapes[n])) // CHUNKS for n in ("audio", "image")}
    points = {n: torch.arange(count) for n, count in shapes.items()} | {"label": None}
    tensors = {n: torch.tensor(x) for n, x in inputs.items()}
    tensors["image"] = tensors["image"].permute(0, 1, 4, 2, 3)
    given = {"inputs": tensors, "subsampled_output_points": points}

  def forward() -> None:
    with torch.no_grad():
      model(**given)

  return timed(forward, repeats)


def perceivers(
  flow: str, autoencoder: str, repeats: int, tiny: bool, has_port: bool
) -> list[list[Any]]:
  rows = []
  passive = {"OMP_WAIT_POLICY": "passive"}  # spinning threads would double torch's time
  for name, unit, parts in ((flow, "pair", 1), (autoencoder, "clip", CHUNKS)):
    theirs: dict[str, float] = {}
    if has_port:
      theirs = common.fresh(port, {"name": name, "repeats": repeats}, passive, inside=tiny)
      row = [f"{name}, {unit}", f"{PORT}{f' (x {parts} chunks)' if parts > 1 else ''}", None]
      seconds = [parts * theirs["wall"], parts * theirs["cpu"]]
      rows.append([*row, *seconds, 1.0, None, theirs["peak"] / common.MB])
    for by, written_out in ((f"{OURS}, no shortcuts", True), (OURS, False)):
      if tiny and written_out:
        continue
      asked = {"name": name, "repeats": repeats, "written_out": written_out}
      found = common.fresh(ours, asked, inside=tiny)
      ratio = found["cpu"] / (parts * theirs["cpu"]) if theirs else None
      row = [f"{name}, {unit}", by, found["compile"], found["wall"], found["cpu"], ratio]
      rows.append([*row, found["temp"] / common.MB, found["peak"] / common.MB])
  return rows


def tiles(name: str) -> list[list[Any]]:
  """Returns how many tiles cover an image, beside the released rule, which repeats some."""
  config, rows = perceiver_stream.config(name), []
  for height, width in ((368, 496), (720, 1280), (1080, 1920), (2160, 3840)):
    starts = [
      [perceiver_flow.tile_starts(n, t, 20, fewest=fewest) for n, t in sizes]
      for fewest in (False, True)
      for sizes in [((height, config.height), (width, config.width))]
    ]
    counts = [len(y) * len(x) for y, x in starts]
    released = len(range(0, height, config.height - 20)) * len(range(0, width, config.width - 20))
    rows.append([f"{width} x {height}", released, *counts, counts[0] / released])
  return rows


# --- MooG and RVM -----------------------------------------------------------------------------------


def watch(name: str, ticks: int, repeats: int, looped: bool) -> dict[str, float]:
  """Returns what latents of `ticks` frames take, in one scan or in a Python loop."""
  model, params, state = started(name)
  frames = {"pixels": np.zeros((ticks, 1, *model.modalities["pixels"].spec.shape), np.uint8)}

  def loop(params: Any, state: Any, observations: dict[str, jax.Array]) -> tuple[Any, Any]:
    latents = []
    for tick in range(ticks):
      _, state = model.observe(params, state, {"pixels": observations["pixels"][tick][None]})
      latents.append(state.latents)
    return jnp.stack(latents), state

  def scan(params: Any, state: Any, observations: dict[str, jax.Array]) -> tuple[Any, Any]:
    outputs, state = model.unroll(params, state, observations, displacements=())
    return outputs.latents, state

  found = common.program(loop if looped else scan, params, state, frames)
  taken = {"compile": found.trace_s + found.compile_s, "temp": found.temp_bytes}
  if looped:
    return taken
  return taken | timed(lambda: found.call(params, state, frames), repeats)


def follow(name: str, ticks: int) -> list[int]:
  """Returns the peak of the process after one tick of a stream, and after `ticks`."""
  model, params, state = started(name)
  frame = {"pixels": np.zeros((1, *model.modalities["pixels"].spec.shape), np.uint8)}
  peaks = []
  for tick in range(ticks):
    _, state = jax.block_until_ready(
      model.observe(params, state, jax.tree.map(lambda x: x[None], frame))
    )
    if tick in (1, ticks - 1):
      peaks.append(peak_bytes())
  return peaks


def learn(name: str, ticks: int, repeats: int, stored: bool) -> dict[str, float]:
  """Returns what the gradient of one window takes; `stored` recomputes nothing."""
  model, params, state = started(name)
  config = dataclasses.replace(model.config, remat=not stored)
  frames = {"pixels": np.zeros((ticks, 1, *model.modalities["pixels"].spec.shape), np.uint8)}
  is_rvm = name.startswith("rvm")
  loss = (rvm_model if is_rvm else moog_model).make_loss(config)
  extra = {"num_sources": ticks // 2} if is_rvm else {}
  gradient = jax.value_and_grad(lambda *args: loss(*args, **extra), has_aux=True)
  inputs = (params, state, frames, jax.random.PRNGKey(1))
  found = common.program(gradient, *inputs)
  taken = {"compile": found.trace_s + found.compile_s, "temp": found.temp_bytes}
  if stored:
    return taken
  return taken | timed(lambda: found.call(*inputs), repeats)


def started(name: str) -> tuple[Model, Any, Any]:
  """Returns the model, parameters, and the state before the first tick."""
  config = perceiver_stream.config(name)
  if name == "moog/movi":
    config = dataclasses.replace(config, height=128, width=128)  # as it was trained
  model = perceiver_stream.build(config)
  frame = {"pixels": np.zeros((1, *model.modalities["pixels"].spec.shape), np.uint8)}
  params = model.init(jax.random.PRNGKey(0), frame)
  return model, params, model.initial_state(params, 1)


def recurrent(
  kind: Callable, names: list[str], lengths: list[int], peer: tuple[str, int], tiny: bool
) -> list[list[Any]]:
  rows = []
  flag, peer_ticks = peer
  for name in names:
    first: dict[str, float] = {}
    for ticks in lengths:
      asked = {"name": name, "ticks": ticks, "repeats": 1, flag: False}
      found = common.fresh(kind, asked, inside=tiny)
      first = first or found
      row = [name, OURS, ticks, found["compile"], found["compile"] / first["compile"]]
      row += [1e3 * found[key] / ticks for key in ("wall", "cpu")]
      row += [found["cpu"] / ticks / (first["cpu"] / lengths[0])]
      rows.append([*row, found["temp"] / common.MB, found["peak"] / common.MB])
    asked = {"name": name, "ticks": peer_ticks, "repeats": 1, flag: True}
    found = common.fresh(kind, asked, inside=tiny)
    row = [name, flag, peer_ticks, found["compile"], found["compile"] / first["compile"]]
    rows.append([*row, None, None, None, found["temp"] / common.MB, None])
  return rows


def main(argv: list[str] | None = None) -> None:
  options = common.arguments_of(argv, __doc__ or "", globals())
  about = common.machine()
  flow, autoencoder, names = (
    "perceiver_flow/published",
    "perceiver_autoencoder/kinetics",
    (["moog/movi", "rvm/small"]),
  )
  lengths, learnt, followed = [4, 16, 64], [4, 8], 16
  if options.tiny:
    flow, autoencoder, names = "perceiver_flow/nano", "perceiver_autoencoder/nano", ["rvm/nano"]
    lengths, learnt, followed = [2], [2], 3
  has_port = bool(importlib.util.find_spec("torch")) and not options.tiny
  columns = ["model", "by", "T", "compile s", f"x T = {lengths[0]}", "wall ms a tick"]
  columns += ["CPU ms a tick", f"x T = {lengths[0]}", "temp MB", "peak MB"]
  learn_columns = [c.replace(f"T = {lengths[0]}", f"T = {learnt[0]}") for c in columns]
  note = "A peak is that of the whole process: imports, weights and compiling included."
  tables = [
    common.Table(
      "Flow and autoencoder",
      ["what", "by", "compile s", "wall s", "CPU s", "x port CPU", "temp MB", "peak MB"],
      perceivers(flow, autoencoder, 1 if options.tiny else 2, options.tiny, has_port),
      f"{note} The port encodes the clip again for each of {CHUNKS} chunks: one chunk is measured "
      f"and multiplied. 'No shortcuts' writes all tokens out and attends to all heads at once.",
    ),
    common.Table(
      "Tiles of a large image",
      ["image", "released rule", "ours", "ours, fewest", "x released"],
      tiles("perceiver_flow/published"),
    ),
    common.Table(
      "Watching T frames",
      columns,
      recurrent(watch, names, lengths, ("looped", lengths[0]), options.tiny),
      f"Latents only. {note} 'looped' is a Python loop over the ticks, compiled, not run.",
    ),
    common.Table(
      "Following a stream tick by tick",
      ["model", "ticks", "peak MB", "x at the second tick"],
      following(names, followed, options.tiny),
    ),
    common.Table(
      "Learning from T frames",
      learn_columns,
      recurrent(learn, names, learnt, ("stored", learnt[-1]), options.tiny),
      f"Loss and gradient, one row. {note} 'stored' recomputes nothing; compiled, not run.",
    ),
  ]
  common.publish("zoo", options, tables, about)


def following(names: list[str], ticks: int, tiny: bool) -> list[list[Any]]:
  rows = []
  for name in names:
    first, last = common.fresh(follow, {"name": name, "ticks": ticks}, inside=tiny)
    rows.append([name, ticks, last / common.MB, last / first])
  return rows


if __name__ == "__main__":
  main()
