"""The published models at published size with random weights: compile time, time, peak memory.

  python benchmarks/zoo.py
  python benchmarks/zoo.py --parts=flow,learning     # some of it; the other tables are kept

References: the Hugging Face port of flow and autoencoder in torch with as many threads (extra `parity`;
without it those rows are left out), and for MooG and RVM a Python loop over the ticks that stores
everything, as the released code does. Every row is measured in an own process.
"""

import dataclasses
import importlib
import importlib.util
import json
import os
import pathlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import common
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import optax
from zoo_parts import inputs_of, pictures, released_tiles, tile_rows

import perceiver_stream
from perceiver_stream import zoo
from perceiver_stream.models.base import Model
from perceiver_stream.models.moog import objective as next_frame
from perceiver_stream.models.perceiver_io import autoencoder as perceiver_autoencoder
from perceiver_stream.models.perceiver_io import flow as perceiver_flow
from perceiver_stream.models.rvm import objective as masked_future
from perceiver_stream.nn import attention
from perceiver_stream.training import objectives

OURS, PORT = "perceiver_stream", "Hugging Face, torch"
PARTS = ("flow", "autoencoder", "large", "tiles", "watching", "following", "learning")
CHUNKS = 128  # of a clip, in the released colab and the port


def peak_bytes() -> int:
  """Returns the peak memory of this process, imports and compilation included."""
  return common.Peak._highest()


def timed(call: Callable[[], Any], repeats: int) -> dict[str, float]:
  """Returns the medians of the clock and the processor, and the peak of the process."""
  seconds = common.medians({"it": call}, repeats)["it"]
  return {"wall": seconds.wall, "cpu": seconds.cpu, "peak": peak_bytes()}


# --- the feed-forward Perceivers --------------------------------------------------------------------


def ours(name: str, repeats: int, written_out: bool) -> dict[str, float]:
  """Returns the cost of a forward pass; `written_out` disables our shortcuts."""
  config, inputs = perceiver_stream.config(name), inputs_of(perceiver_stream.config(name))
  if written_out:
    attention.TILE_BYTES = 2**62
    hk.running_init = lambda: True
  is_flow = isinstance(config, perceiver_flow.Config)
  make = perceiver_flow.FlowPerceiver if is_flow else perceiver_autoencoder.Autoencoder
  network = hk.without_apply_rng(hk.transform(lambda x: make(config)(x)))
  params = jax.jit(network.init)(jax.random.PRNGKey(0), inputs)
  found, taken = compiled(network.apply, params, inputs)
  return taken | timed(lambda: found.call(params, inputs), repeats)


def port(name: str, repeats: int) -> dict[str, float]:
  """Returns the cost of a forward pass of the Hugging Face port; of a clip, one chunk of it."""
  torch, transformers = map(importlib.import_module, ("torch", "transformers"))
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
    patches = np.asarray(perceiver_flow.extract_patches(jnp.asarray(inputs)))
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


def perceiver(name: str, what: str, chunks: int, tiny: bool, has_port: bool) -> list[list[Any]]:
  """Returns the rows of one model: the port, ours without shortcuts, ours."""
  rows, repeats = [], 1
  passive = {"OMP_WAIT_POLICY": "passive"}  # spinning threads would double torch's time
  theirs: dict[str, float] = {}
  if has_port:
    theirs = common.fresh(port, {"name": name, "repeats": repeats}, passive)
    by = f"{PORT} (x {chunks} chunks)" if chunks > 1 else PORT
    seconds = [chunks * theirs["wall"], chunks * theirs["cpu"]]
    rows.append([what, by, None, *seconds, 1.0, None, theirs["peak"] / common.MB])
  for by, written_out in ((f"{OURS}, no shortcuts", True), (OURS, False)):
    if tiny and written_out:
      continue
    asked = {"name": name, "repeats": repeats, "written_out": written_out}
    found = common.fresh(ours, asked, inside=tiny)
    ratio = found["cpu"] / (chunks * theirs["cpu"]) if theirs else None
    row = [what, by, found["compile"], found["wall"], found["cpu"], ratio]
    rows.append([*row, found["temp"] / common.MB, found["peak"] / common.MB])
  return rows


def large(name: str, height: int, width: int) -> dict[str, float]:
  """Returns the cost of flow of a large image, tile after tile, and the number of repeated tiles."""
  config = perceiver_stream.config(name)
  network = hk.without_apply_rng(hk.transform(lambda x: perceiver_flow.FlowPerceiver(config)(x)))
  frames = 2 * pictures(1, 2, height, width, config.channels) - 1
  tile, seen = (config.height, config.width), []
  params = jax.jit(network.init)(jax.random.PRNGKey(0), frames[:, :, : tile[0], : tile[1]])
  apply = jax.jit(network.apply)

  def flow(window: np.ndarray) -> jax.Array:
    seen.append(hash(window.tobytes()))  # of noise: only the same position has the same
    return apply(params, window)

  wall, cpu = time.perf_counter(), time.process_time()
  overlap = min(20, min(tile) // 2)
  answer = perceiver_flow.tiled_flow(flow, frames, tile, overlap=overlap)
  taken = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
  assert answer.shape == (1, height, width, 2)
  tiles = {"tiles": len(seen), "repeated": len(seen) - len(set(seen))}
  return taken | tiles | {"peak": peak_bytes()}


def large_rows(name: str, size: tuple[int, int], tiny: bool) -> list[list[Any]]:
  found = common.fresh(large, {"name": name, "height": size[0], "width": size[1]}, inside=tiny)
  released = released_tiles(size, perceiver_stream.config(name))
  row = [f"{size[1]} x {size[0]}", found["tiles"], found["tiles"] / released, found["repeated"]]
  each = found["cpu"] / found["tiles"]
  return [[*row, found["wall"], found["cpu"], each, found["peak"] / common.MB]]


# --- MooG and RVM -----------------------------------------------------------------------------------


def watch(
  name: str, ticks: int, repeats: int, looped: bool, compile_only: bool = False
) -> dict[str, float]:
  """Returns the cost of the latents of `ticks` frames, in one scan or in a Python loop."""
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

  found, taken = compiled(loop if looped else scan, params, state, frames)
  return (
    taken if compile_only else taken | timed(lambda: found.call(params, state, frames), repeats)
  )


def compiled(
  function: Callable, *arguments: Any, donate: Sequence[int] = ()
) -> tuple[common.Program, dict[str, float]]:
  """Returns the program, and the CPU seconds of compiling it, tracing included."""
  start = time.process_time()
  found = common.program(function, *arguments, donate=donate)
  common.give_back()
  return found, {"compile": time.process_time() - start, "temp": found.temp_bytes}


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


def learn(
  name: str, ticks: int, repeats: int, looped: bool, compile_only: bool = False
) -> dict[str, float]:
  """Returns the cost of one training step: loss, gradient, AdamW, in place as in training.

  `looped` is a Python loop over the ticks of the recurrence that recomputes nothing.
  """
  model, params, state = started(name)
  config = dataclasses.replace(model.config, remat=not looped)
  if looped:
    hk.dynamic_unroll = hk.static_unroll
  frames = {"pixels": np.zeros((ticks, 1, *model.modalities["pixels"].spec.shape), np.uint8)}
  if name.startswith("rvm"):  # sources, then as many ticks from which one target is drawn
    ahead = tuple(range(1, ticks - ticks // 2 + 1))
    goal = masked_future.Config(window=ticks // 2, displacements=ahead, num_targets=1)
  else:
    goal = next_frame.Config(window=ticks, score_ticks=1)
  loss = objectives.make(zoo.build(config), goal).loss
  optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-4, b2=0.95))

  def step(params: Any, moments: Any, *args: Any) -> tuple[Any, Any, jax.Array]:
    gradient = jax.value_and_grad(lambda p: loss(p, *args), has_aux=True)
    (value, _), slopes = gradient(params)
    with jax.numpy_dtype_promotion("standard"):  # which adam needs
      updates, moments = optimizer.update(slopes, moments, params)
    return optax.apply_updates(params, updates), moments, value

  inputs = (params, optimizer.init(params), state, frames, jax.random.PRNGKey(1))
  found, taken = compiled(step, *inputs, donate=(0, 1))
  del params  # donated
  learnt, rest = inputs[:2], inputs[2:]

  def again() -> jax.Array:
    nonlocal learnt
    *learnt, value = found.call(*learnt, *rest)
    return value

  return taken if compile_only else taken | timed(again, repeats)


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
  kind: Callable, names: list[str], cases: list[dict[str, Any]], tiny: bool
) -> list[list[Any]]:
  cases = [{"ticks": 2}] if tiny else cases
  return [row for name in names for row in recurrent_rows(kind, name, cases, tiny)]


def recurrent_rows(
  kind: Callable, name: str, cases: list[dict[str, Any]], tiny: bool
) -> list[list[Any]]:
  """Returns a row per case; times are relative to the first."""
  rows, first = [], {}
  for case in cases:
    asked = {"name": name, "repeats": 0, "looped": False} | case
    found = common.fresh(kind, asked, inside=tiny)
    ticks = case["ticks"]
    each = [found[key] / ticks if key in found else None for key in ("wall", "cpu")]
    first = first or {"compile": found["compile"], "cpu": each[1]}
    row = [name, "Python loop" if case.get("looped") else OURS, ticks]
    row += [found["compile"], found["compile"] / first["compile"]]
    row += [x and 1e3 * x for x in each] + [each[1] and each[1] / first["cpu"]]
    peak = found["peak"] / common.MB if "peak" in found else None
    rows.append([*row, found["temp"] / common.MB, peak])
  return rows


WATCHED = [{"ticks": n} for n in (4, 16)] + [{"ticks": 64, "compile_only": True}]
WATCHED.append({"ticks": 4, "looped": True})
LEARNT = [{"ticks": 4}, {"ticks": 8}, {"ticks": 64, "compile_only": True}]
LEARNT.append({"ticks": 4, "looped": True})  # longer ones take too much memory to compile


def following(names: list[str], ticks: int, tiny: bool) -> list[list[Any]]:
  rows = []
  for name in names:
    first, last = common.fresh(follow, {"name": name, "ticks": ticks}, inside=tiny)
    rows.append([name, ticks, first / common.MB, last / common.MB, last / first])
  return rows


# --- tables -----------------------------------------------------------------------------------------

PEAK = (
  "A peak is that of the whole process: imports, weights and compilation included; the "
  "compiler's memory is released before the first call."
)
PERCEIVER_COLUMNS = [
  "model", "by", "compile CPU s", "wall s", "CPU s", "x port CPU", "temp MB", "peak MB"
]  # fmt: skip
LARGE_COLUMNS = [
  "image", "tiles", "x released", "repeated", "wall s", "CPU s", "CPU s a tile", "peak MB"
]  # fmt: skip
TICK_COLUMNS = [
  "model", "by", "T", "compile CPU s", "x first", "wall ms a tick", "CPU ms a tick", "x first",
  "temp MB", "peak MB",
]  # fmt: skip


def table(part: str, tiny: bool) -> common.Table:
  """Returns the table of one part, measured now."""
  size = ("nano", "nano") if tiny else ("published", "kinetics")
  flow, autoencoder = f"perceiver_flow/{size[0]}", f"perceiver_autoencoder/{size[1]}"
  names = ["rvm/nano"] if tiny else ["moog/movi", "rvm/small"]
  has_port = bool(importlib.util.find_spec("torch")) and not tiny
  make: dict[str, Callable[[], common.Table]] = {
    "flow": lambda: common.Table(
      "Optical flow of one pair",
      PERCEIVER_COLUMNS,
      perceiver(flow, flow, 1, tiny, has_port),
      f"{PEAK} 'No shortcuts' computes all tokens and attends to all heads at once.",
    ),
    "autoencoder": lambda: common.Table(
      "Autoencoding one clip",
      PERCEIVER_COLUMNS,
      perceiver(autoencoder, autoencoder, CHUNKS, tiny, has_port),
      f"{PEAK} The port encodes the clip again for each of {CHUNKS} chunks: one chunk is measured "
      f"and multiplied. 'No shortcuts' computes all tokens and attends to all heads at once.",
    ),
    "large": lambda: common.Table(
      "Optical flow of a large image",
      LARGE_COLUMNS,
      large_rows(flow, (40, 60) if tiny else (1080, 1920), tiny),
      f"Compilation included. {PEAK} The released code fails at this size.",
    ),
    "tiles": lambda: common.Table(
      "Tiles of a large image",
      ["image", "released rule", "ours", "ours, fewest", "x released"],
      tile_rows("perceiver_flow/published"),
    ),
    "watching": lambda: common.Table(
      "Inference on T frames",
      TICK_COLUMNS,
      recurrent(watch, names, WATCHED, tiny),
      f"Latents only, first call. {PEAK} 'Python loop': over the ticks, inside one compiled "
      f"program. Rows without times were compiled, not run.",
    ),
    "following": lambda: common.Table(
      "Streaming tick by tick",
      ["model", "ticks", "peak MB, second tick", "peak MB, last tick", "x second"],
      following(names, 3 if tiny else 64, tiny),
    ),
    "learning": lambda: common.Table(
      "Training on T frames",
      TICK_COLUMNS,
      recurrent(learn, names, LEARNT, tiny),
      f"Loss, gradient and AdamW in place, one row, first call. {PEAK} 'Python loop' recomputes nothing. Rows without "
      f"times were compiled, not run.",
    ),
  }
  return make[part]()


def kept(path: pathlib.Path, tiny: bool) -> dict[str, common.Table]:
  """Returns the tables of earlier runs of other parts, by title."""
  if not path.is_file():
    return {}
  found = json.loads(path.read_text())
  tables = [common.Table(**t) for t in found["tables"]] if found["tiny"] == tiny else []
  return {t.title: t for t in tables}


def main(argv: list[str] | None = None) -> None:
  options = common.arguments_of(argv, __doc__ or "", globals(), {"parts": ",".join(PARTS)})
  about = common.machine()
  asked = options.parts.split(",")
  if unknown := set(asked) - set(PARTS):
    raise SystemExit(f"--parts: {sorted(unknown)} are none of {', '.join(PARTS)}")
  for part in asked:
    made = table(part, options.tiny)
    tables = kept(pathlib.Path(options.output) / "zoo.json", options.tiny) | {made.title: made}
    common.publish("zoo", options, list(tables.values()), about)


if __name__ == "__main__":
  main()
