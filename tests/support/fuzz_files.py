"""Reads thousands of damaged and hostile files in this process; prints what came of it as JSON.

Run as a program, so that a crash or endless memory is that of a child. Everything follows from the
seed: a failure names its format and case number.
"""

import contextlib
import io
import json
import pathlib
import pickle
import pickletools
import random
import re
import resource
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from safetensors.numpy import save

from perceiver_stream import zoo
from perceiver_stream.files import codec
from perceiver_stream.files.array_files import kind_of, read_npz, read_safetensors
from perceiver_stream.files.pickles import flat_arrays, load_pickle
from perceiver_stream.inference.latents import read_shards
from perceiver_stream.reporting import runs
from perceiver_stream.streams import shard_files, synthetic
from perceiver_stream.training import config as run_config
from perceiver_stream.zoo import configs
from perceiver_stream.zoo.hugging_face import recognise_hugging_face

PLAIN = (dict, list, tuple, str, bytes, int, float, bool, type(None))
ODD = [None, True, False, -1, 0, 1, 3, 2**31, 2**53, 10**18, 1.5, -0.0, 1e300, float("nan")]
ODD += [
  float("inf"),
  "",
  "x",
  "../x",
  "/dev/zero",
  "\0",
  [],
  [0],
  [[[]]],
  {},
  {"a": 1},
  {"_type": "os"},
]
MODULES = [("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode"), ("builtins", "dict")]
MODULES += [
  (f"numpy._core.{m}", n) for m, n in (("multiarray", "_reconstruct"), ("multiarray", "scalar"))
]
MODULES += [
  ("numpy._core.numeric", "_frombuffer"),
  ("collections", "OrderedDict"),
  ("os", "system"),
]
Case = tuple[bytes, Callable[[bytes], Any]]


def trees() -> list[Any]:
  """Returns what files of parameters and of data sets hold."""
  rng = np.random.default_rng(0)
  weights = {"a/~/b": {"w": rng.normal(size=(3, 4)).astype("f4"), "b": np.zeros(4, ">f8")}}
  video = {"video": np.zeros((2, 4, 4, 3), np.uint8), "points": np.zeros((1, 2, 2)), 3: [b"jpeg"]}
  fortran = np.asfortranarray(rng.normal(size=(2, 3)))
  return [
    weights,
    [video, (1, 2.5, None, True, "é")],
    fortran,
    {"s": np.float32(2), "t": np.asarray([b"ab"])},
  ]


def mutated(data: bytes, rng: random.Random, other: bytes) -> bytes:
  """Returns data with a few bytes changed, cut, doubled, blown up, or spliced with others."""
  made = bytearray(data)
  for _ in range(rng.choice([1, 1, 2, 4])):
    at = rng.randrange(len(made) + 1)
    way = rng.randrange(6)
    if way == 0 and made:
      made[at % len(made)] ^= 1 << rng.randrange(8)
    elif way == 1:
      made[at : at + rng.choice([1, 4, 20])] = b""
    elif way == 2:
      made[at:at] = made[at : at + 30]
    elif way == 3:
      made[at : at + 4] = rng.choice(
        [b"\xff\xff\xff\x7f", b"\xff" * 4, bytes(4), struct.pack("<I", at)]
      )
    elif way == 4:
      made[at:] = other[rng.randrange(len(other) + 1) :]
    else:
      made[at : at + 1] = bytes([rng.randrange(256)])
  return bytes(made)


# --- pickles ----------------------------------------------------------------------------------------


def argument(opcode: Any, rng: random.Random) -> bytes:
  """Returns a random argument of an instruction, mostly one that fits."""
  size = opcode.arg.n if opcode.arg else 0
  if opcode.name in ("GLOBAL", "INST"):
    return "\n".join([*rng.choice(MODULES), ""]).encode()
  if size == pickletools.UP_TO_NEWLINE:
    return rng.choice([b"1", b"00", b"01", b"-3L", b"'a'", b"0.5", b"\\u0041"]) + b"\n"
  if size < 0:
    payload = rng.choice([b"", b"f8", b"latin1", b"ABCDEFGH", b"a" * 40, b"numpy", b"ndarray"])
    width = {-2: 1, -3: 4, -4: 4, -5: 8}[size]
    stated = len(payload) if rng.random() < 0.95 else rng.choice([0, 255, 2 ** (8 * width - 1) - 1])
    return (stated % 256**width).to_bytes(width, "little") + payload
  return bytes(rng.choice([0, 1, 2, 3, 8, 255]) for _ in range(size))


# Instructions in the order of ordinary files: made of these, programs get far before they fail.
PIECES = [
  b"cnumpy\nndarray\n", b"cnumpy\ndtype\n(X\x02\x00\x00\x00f8tR", b"cnumpy\ndtype\n(X\x02\x00\x00\x00O8tR",
  b"cnumpy._core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R",
  b"(K\x01K\x01\x85cnumpy\ndtype\nX\x02\x00\x00\x00f8\x85R\x89C\x08ABCDEFGHtb", b"C\x08ABCDEFGH",
  b"cnumpy._core.multiarray\nscalar\n", b"cnumpy._core.numeric\n_frombuffer\n", b"(C\x08ABCDEFGH",
  b"c_codecs\nencode\n(X\x03\x00\x00\x00abcX\x06\x00\x00\x00latin1tR", b"K\x01\x85", b"K\x02K\x04\x86",
  b"\x89", b"\x88", b"(", b"t", b"R", b"b", b"\x81", b"}", b"]", b"a", b"s", b"e", b"u", b")", b"\x94",
  b"X\x01\x00\x00\x00k", b"q\x01", b"h\x01", b"h\x00", b"X\x01\x00\x00\x00C", b"N", b"K\x01", b"\x85", b"\x87",
]  # fmt: skip


def program(rng: random.Random) -> bytes:
  """Returns a random program, of pieces of ordinary ones or of any instructions at all."""
  made = b"\x80" + bytes([rng.choice([2, 3, 4, 5])])
  share = rng.choice([0.0, 0.1, 1.0])
  for _ in range(rng.choice([2, 4, 8, 30])):
    if rng.random() < share:
      opcode = rng.choice(pickletools.opcodes)
      made += opcode.code.encode("latin1") + argument(opcode, rng)
    else:
      made += rng.choice(PIECES)
  return made + b"."


def check_tree(node: Any) -> None:
  """Raises TypeError unless all of a tree is plain; reads every byte of its arrays."""
  if isinstance(node, np.ndarray | np.generic):
    if node.dtype.kind not in "biufcS" or node.dtype.hasobject:
      raise TypeError(f"an array of {node.dtype}")
    np.asarray(node).tobytes()
  elif type(node) not in PLAIN:
    raise TypeError(f"a {type(node)}")
  for inner in (
    node.values() if isinstance(node, dict) else node if isinstance(node, list | tuple) else ()
  ):
    check_tree(inner)


def read_pickle(data: bytes) -> None:
  tree = load_pickle(data, "case")
  check_tree(tree)
  with contextlib.suppress(ValueError):  # it may be a list
    flat_arrays(tree, "case")


def pickles(rng: random.Random) -> Iterator[Case]:
  seeds = [pickle.dumps(tree, protocol) for tree in trees() for protocol in range(6)]
  yield from ((seed, read_pickle) for seed in seeds)
  yield from (
    (mutated(rng.choice(seeds), rng, rng.choice(seeds)), read_pickle) for _ in range(1500)
  )
  yield from ((program(rng), read_pickle) for _ in range(1500))
  yield from ((data, read_pickle) for data in greedy())


def greedy() -> Iterator[bytes]:
  """Yields programs that make as much as they can of few bytes."""
  for deep in (b"\x85", b"]", b"}", b"(", b")\x85\x85"):
    yield b"\x80\x02}" + b")" + 300_000 * deep + b"K\x01s."
  ballast = b"B" + struct.pack("<I", 2**21) + bytes(2**21)
  small = b"cnumpy._core.multiarray\nscalar\nq\x01" + PIECES[1] + b"C\x08ABCDEFGH\x86q\x02R"
  for one in (
    b"}",
    b"]\x94",
    b"C\x02ab",
    b"(K\x01K\x02d",
    b"\x8a\x05\0\0\0\0\x01\x94",
    b"h\x01h\x02R",
  ):
    count = 130_000 // {b"h\x01h\x02R": 3, b"(K\x01K\x02d": 4}.get(
      one, len(one) if one[-1] == 0x94 else 1
    )
    yield b"\x80\x02(" + small + ballast + (count - 100) * one + b"l."


# --- arrays -----------------------------------------------------------------------------------------


def array_files(rng: random.Random, folder: pathlib.Path) -> Iterator[Case]:
  arrays = {"a/b": np.arange(12.0).reshape(3, 4), "c": np.asfortranarray(np.ones((2, 3), "f4"))}
  path, seeds = folder / "case", []
  for write in (np.savez, np.savez_compressed):
    file = io.BytesIO()
    write(file, **arrays, d=np.zeros((40, 50), np.uint8))
    seeds.append(file.getvalue())
  metadata = {"format": "x", "config": configs.to_json(zoo.config("rvm/nano"))}
  seeds.append(save({k: np.ascontiguousarray(v) for k, v in arrays.items()}, metadata))

  def read(data: bytes) -> None:
    path.write_bytes(data)
    with contextlib.suppress(ValueError):
      kind_of(path)
    check_tree(read_npz(path) if data[:2] == b"PK" else list(read_safetensors(path)))

  yield from ((seed, read) for seed in seeds)
  for number in range(900):
    seed = seeds[number % 3]
    yield mutated(seed, rng, seed), read


# --- JSON -------------------------------------------------------------------------------------------


def changed(value: Any, rng: random.Random) -> Any:
  """Returns JSON with an odd value, key, or copy of a part somewhere in it."""
  value = json.loads(json.dumps(value))
  inner = value
  while True:
    keys = list(inner) if isinstance(inner, dict) else list(range(len(inner)))
    if not keys:
      return rng.choice(ODD)
    key = rng.choice(keys)
    if isinstance(inner[key], dict | list) and inner[key] and rng.random() < 0.8:
      inner = inner[key]
      continue
    if isinstance(inner, dict) and rng.random() < 0.15:
      inner[rng.choice(["zzz", "_type", "class", "dict", "specs"])] = inner.pop(key)
    else:
      inner[key] = rng.choice([*ODD, json.loads(json.dumps(value))])
    return value


def documents(
  stored: Any, read: Callable[[bytes], Any], rng: random.Random, count: int
) -> Iterator[Case]:
  text = json.dumps(stored).encode()
  yield text, read
  for number in range(count):
    if number % 3:
      yield json.dumps(changed(stored, rng)).encode(), read
    else:
      yield mutated(text, rng, text), read


def text_of(data: bytes) -> str:
  return data.decode()  # UnicodeDecodeError is a ValueError


def model_configs(rng: random.Random) -> Iterator[Case]:
  for name in ("stream_perceiver/nano", "moog/nano", "rvm/nano", "perceiver_autoencoder/nano"):
    read = lambda data: zoo.build(configs.from_json(text_of(data)))  # noqa: E731
    yield from documents(codec.to_dict(zoo.config(name)), read, rng, 100)


def write_run(folder: pathlib.Path) -> dict[str, Any]:
  """Writes what a run's folder holds; returns its files by name."""
  experiment = run_config.ExperimentConfig(
    model=zoo.config("stream_perceiver/nano"), stream=synthetic.Config()
  )
  scores = {"pixels@1": {"count": 4, "model": 0.1, "copy": 0.2}, "audio@4": {"model": 1.0}}
  line = {"window": 1, "ticks": 8, "loss": 0.5, "scores": scores, "frames_per_s": 20.0}
  return {"config.json": codec.to_dict(experiment), "metrics.jsonl": line, "timing.jsonl": line,
          "summary.json": {"frames_per_s": 3.0, "loss": None}}  # fmt: skip


def run_folders(rng: random.Random, folder: pathlib.Path) -> Iterator[Case]:
  stored = write_run(folder)
  for name, value in stored.items():
    (folder / name).write_text(json.dumps(value) + "\n")

  def reader(name: str) -> Callable[[bytes], Any]:
    def read(data: bytes) -> None:
      (folder / name).write_bytes(data)
      try:
        runs.summarise_run(runs.read_run(folder))
        if name == "config.json":
          run_config.read_config(folder)
      finally:
        (folder / name).write_text(json.dumps(stored[name]) + "\n")

    return read

  for name, value in stored.items():
    yield from documents(value, reader(name), rng, 150)


def indexes(rng: random.Random, folder: pathlib.Path) -> Iterator[Case]:
  specs = {"pixels": {"shape": [4, 4, 3], "dtype": "uint8", "minimum": 0.0, "maximum": 255.0,
                      "rate_hz": 25.0, "units": "", "offset_s": 0.0}}  # fmt: skip
  shard = {"file": "a.ticks", "ticks": 8, "num_bytes": 100, "firsts": [0, 4], "state": {"tick": 8}}
  stored = {"format": 1, "specs": specs, "rate_hz": 25.0, "source": {}, "shards": [shard, shard]}

  def read(data: bytes) -> None:
    (folder / shard_files.INDEX).write_bytes(data)
    index = shard_files.Index.read(folder)
    shard_files.Layout(index.specs)
    [shard.is_whole(folder) for shard in index.shards]

  def read_part(data: bytes) -> None:
    (folder / "part.json").write_bytes(data)
    shard_files.Part.read(folder / "part.json")

  def read_latents(data: bytes) -> None:
    (folder / "index.json").write_bytes(data)
    with contextlib.suppress(FileNotFoundError):
      next(read_shards(folder), None)

  yield from documents(stored, read, rng, 300)
  yield from documents({"shards": [shard], "finished": True}, read_part, rng, 100)
  yield from documents({"shards": 2, "ticks": 3}, read_latents, rng, 100)


def hugging_face(rng: random.Random, folder: pathlib.Path) -> Iterator[Case]:
  def read(data: bytes) -> None:
    (folder / "hf.json").write_bytes(data)
    recognise_hugging_face({}, folder / "hf.json")

  stored = {"architectures": ["PerceiverForOpticalFlow"], "num_latents": 8, "d_latents": 8,
            "train_size": [16, 16], "output_shape": [1, 2, 8, 8]}  # fmt: skip
  yield from documents(stored, read, rng, 150)


def main(seed: int) -> None:
  """Reads all cases, and prints how many were read, refused, and failed, and what they took."""
  rng = random.Random(seed)
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    formats = {
      "pickle": pickles(rng),
      "arrays": array_files(rng, folder),
      "model config": model_configs(rng),
      "run folder": run_folders(rng, folder),
      "index": indexes(rng, folder),
      "hugging face": hugging_face(rng, folder),
    }
    found = {kind: run(kind, cases) for kind, cases in formats.items()}
  print(json.dumps(found))


def run(kind: str, cases: Iterator[Case]) -> dict[str, Any]:
  counts = {"read": 0, "refused": 0}
  failed, slowest, base, largest = [], 0.0, 0, 0
  for number, (data, read) in enumerate(cases):
    base = base or forget_peak()  # after the first files have been made
    largest = max(largest, len(data))
    start = time.process_time()
    try:
      read(data)
      counts["read"] += 1
    except ValueError:
      counts["refused"] += 1
    except Exception as error:
      failed.append(f"{kind} {number}: {error!r}"[:300])
    slowest = max(slowest, time.process_time() - start)
  took = {"slowest_s": slowest, "memory_bytes": peak_bytes() - base, "largest_bytes": largest}
  return counts | took | {"failed": failed}


def forget_peak() -> int:
  """Lets `peak_bytes` start from what is held now, where the system can; returns that."""
  with contextlib.suppress(OSError):
    pathlib.Path("/proc/self/clear_refs").write_text("5")
  return peak_bytes()


def peak_bytes() -> int:
  """Returns the most memory that this process has had."""
  with contextlib.suppress(OSError):
    status = pathlib.Path("/proc/self/status").read_text()
    return 1024 * int(re.findall(r"VmHWM:\s*(\d+) kB", status)[0])
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  return peak if sys.platform == "darwin" else 1024 * peak


if __name__ == "__main__":
  main(int(sys.argv[1]))
