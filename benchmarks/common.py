"""Shared functions of the benchmarks: clocks, memory, fresh processes, tables, pages.

Run as a script, it describes the machine.
"""

import argparse
import contextlib
import ctypes
import datetime
import json
import os
import pathlib
import platform
import re
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import perceiver_stream

MB = 1e6
GRAIN = 2.0  # noise of a camera, of 255; without it a written video is too easy to decode
_STATUS = pathlib.Path("/proc/self/status")  # Linux

# --- time


class Seconds(NamedTuple):
  """Medians of wall time and of CPU time over all threads."""

  wall: float
  cpu: float


def medians(contestants: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, Seconds]:
  """Returns the median times of each contestant after one warm-up call; without `repeats`, of that call.

  They run in turns, so that a busy moment of the machine affects all of them equally.
  """
  import jax

  spent: dict[str, list[Seconds]] = {name: [] for name in contestants}
  for _ in range(repeats + 1):
    for name, call in contestants.items():
      wall, cpu = time.perf_counter(), time.process_time()
      jax.block_until_ready(call())
      spent[name].append(Seconds(time.perf_counter() - wall, time.process_time() - cpu))
  middle = lambda turns: Seconds(*map(statistics.median, zip(*turns, strict=True)))  # noqa: E731
  return {name: middle(turns[1:] or turns) for name, turns in spent.items()}


def cpu_s(process: int) -> float:
  """Returns the CPU seconds of a process so far (Linux)."""
  fields = pathlib.Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
  return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Program(NamedTuple):
  """A compiled function and the cost of compiling it.

  Attributes:
    call: Takes the arguments it was compiled for.
    trace_s: Seconds from Python to StableHLO.
    compile_s: Seconds from there to machine code.
    instructions: Lines of the optimised program.
    temp_bytes: XLA's temporary memory while it runs, without arguments and results.
    output_bytes: Size of the results.
  """

  call: Callable
  trace_s: float
  compile_s: float
  instructions: int
  temp_bytes: int
  output_bytes: int


@contextlib.contextmanager
def without_kept_programs() -> Iterator[None]:
  """Compiles anew inside, so that time and text of a program are of a compilation, not of a kept file."""
  import jax
  from jax.experimental.compilation_cache import compilation_cache

  name = "jax_enable_compilation_cache"
  was = getattr(jax.config, name)
  try:
    jax.config.update(name, False)
    compilation_cache.reset_cache()
    yield
  finally:
    jax.config.update(name, was)
    compilation_cache.reset_cache()


def program(function: Callable, *arguments: Any, donate: Sequence[int] = ()) -> Program:
  """Returns `function` compiled for arguments of these shapes; they may be ShapeDtypeStructs.

  Args:
    function: Pure.
    *arguments: Arrays or structs of the shapes to compile for.
    donate: Which arguments the program may overwrite, by number.
  """
  import jax

  start = time.perf_counter()
  lowered = jax.jit(function, donate_argnums=tuple(donate)).lower(*arguments)
  traced = time.perf_counter()
  with without_kept_programs():
    compiled = lowered.compile()
  done = time.perf_counter()
  memory = compiled.memory_analysis()
  return Program(
    compiled,
    traced - start,
    done - traced,
    len(compiled.as_text().splitlines()),
    memory.temp_size_in_bytes,
    memory.output_size_in_bytes,
  )


# --- memory


def give_back() -> None:
  """Returns unused memory of glibc to the system, such as the compiler's."""
  trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
  if trim is not None:
    trim(0)


class Peak:
  """Measures the growth of this process in a `with` block: `so_far` inside, `grown` after it.

  Earlier peaks are excluded on Linux only.
  """

  def __enter__(self) -> "Peak":
    give_back()  # or the compiler's memory would hide growth
    if _STATUS.exists():
      pathlib.Path("/proc/self/clear_refs").write_text("5")  # resets the peak to the current memory
    self._before = self._highest()
    return self

  def __exit__(self, *error: object) -> None:
    self.grown = self.so_far

  @property
  def so_far(self) -> int:
    """Bytes of the peak over the start of the block."""
    return self._highest() - self._before

  @staticmethod
  def _highest() -> int:
    if _STATUS.exists():  # not getrusage: on Linux a child starts with its parent's peak
      match = re.search(r"VmHWM:\s+(\d+) kB", _STATUS.read_text())
      return 1024 * int(match.group(1)) if match else 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def free_bytes() -> int:
  """Returns the memory available without swapping; 8 GB where the system does not report it."""
  path = pathlib.Path("/proc/meminfo")
  match = re.search(r"MemAvailable:\s+(\d+) kB", path.read_text()) if path.exists() else None
  return 1024 * int(match.group(1)) if match else 8 * 10**9


# --- fresh processes


def fresh(
  function: Callable,
  arguments: Mapping[str, Any],
  env: Mapping[str, str] | None = None,
  *,
  inside: bool = False,
) -> Any:
  """Returns `function(**arguments)` computed in a new process.

  Args:
    function: At the top of a script whose `main` begins with `arguments_of`.
    arguments: JSON values; the result must be one, too.
    env: Changes of the environment.
    inside: Call it in this process instead, for quick checks.
  """
  script = function.__code__.co_filename
  asked = json.dumps({"function": function.__name__, "arguments": arguments})
  if inside:
    return json.loads(json.dumps(function(**json.loads(asked)["arguments"])))
  command = [sys.executable, script, "--probe", asked]
  done = subprocess.run(command, env=os.environ | dict(env or {}), capture_output=True, text=True)
  if done.returncode:
    raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-4000:]}")
  return json.loads(done.stdout.splitlines()[-1])


def arguments_of(
  argv: Sequence[str] | None, doc: str, names: Mapping[str, Any], more: Mapping[str, Any] = {}
) -> Any:
  """Returns the command line's options; runs the function and exits if `fresh` started the process.

  Args:
    argv: The command line; None is the process's own.
    doc: Of the script.
    names: Its `globals()`.
    more: Options of its own, with their defaults.
  """
  parser = argparse.ArgumentParser(
    description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  add = parser.add_argument
  add(
    "--tiny", action="store_true", help="smallest sizes, a quick check without meaningful numbers"
  )
  add("--output", default="runs/benchmarks", help="folder for JSON and files made for the purpose")
  add("--markdown", metavar="FILE", help="page whose section of this name is replaced")
  add("--path", default="", help="video to read, where the benchmark reads one")
  for name, default in more.items():
    add(f"--{name}", type=type(default), default=default, help=f"default {default}")
  add("--probe", help=argparse.SUPPRESS)
  options = parser.parse_args(argv)
  if options.probe:
    asked = json.loads(options.probe)
    print(json.dumps(names[asked["function"]](**asked["arguments"])))
    sys.exit()
  return options


# --- tables and pages


class Table(NamedTuple):
  """Rows of text, numbers and None; column titles contain the unit."""

  title: str
  columns: Sequence[str]
  rows: Sequence[Sequence[Any]]
  note: str = ""

  def text(self, start: str = "", between: str = "  ", end: str = "") -> str:
    """Returns the table with aligned columns: text to the left, numbers to the right."""
    cells = [[shown(x) for x in row] for row in self.rows]
    widths = [max(map(len, column)) for column in zip(self.columns, *cells, strict=True)]
    is_text = [all(isinstance(x, str) for x in column) for column in zip(*self.rows, strict=True)]
    align = [str.ljust if text else str.rjust for text in is_text]
    colons = [":" if start and not text else "-" for text in is_text]  # markdown's right
    rule = ["-" * (w - 1) + colon for w, colon in zip(widths, colons, strict=True)]
    lines = [
      start + between.join(a(c, w) for a, c, w in zip(align, row, widths, strict=True)) + end
      for row in (self.columns, rule, *cells)
    ]
    return "\n".join(lines)

  def markdown(self) -> str:
    """Returns the table as a section of a page."""
    note = f"\n\n{self.note}" if self.note else ""
    return f"### {self.title}\n\n{self.text('| ', ' | ', ' |')}{note}\n"


def shown(value: Any) -> str:
  """Returns three digits of a number, text as it is, a dash for None."""
  if value is None:
    return "–"
  if isinstance(value, str):
    return value
  if value == 0 or 0.01 <= abs(value) < 100:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
  return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1e}"


def spread(
  values: Sequence[float], form: str | Callable[[float], str] = ".1f", between: str = " to "
) -> str:
  """Returns the mean and the range over seeds, each in a format; of one value, only that."""
  write = (lambda x: format(x, form)) if isinstance(form, str) else form
  low, mean, high = (write(f(values)) for f in (min, statistics.fmean, max))
  return mean if len(values) == 1 else f"{mean} ({low}{between}{high})"


def machine() -> dict[str, Any]:
  """Returns a description of the machine and the versions, on which the numbers depend."""
  info = pathlib.Path("/proc/cpuinfo")
  name = re.search(r"model name\s*: (.*)", info.read_text()) if info.exists() else None
  has_affinity = hasattr(os, "sched_getaffinity")
  cores = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
  import jax

  return {
    "cpu": name.group(1) if name else platform.processor() or platform.machine(),
    "cores": cores,
    "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9),
    "system": platform.system(),
    "python": platform.python_version(),
    "jax": jax.__version__,
    "backend": jax.default_backend(),
    "perceiver_stream": perceiver_stream.__version__,
    "load": round(os.getloadavg()[0], 1),
    "date": datetime.date.today().isoformat(),
  }


def headline(about: Mapping[str, Any]) -> str:
  """Returns the machine in one line, with a warning if it was busy."""
  busy = about["load"] > 0.5 * about["cores"]
  warning = f" **The machine was busy (load {about['load']}): do not quote.**" if busy else ""
  return (
    f"{about['cores']} × {about['cpu']}, {about['memory_gb']} GB, {about['system']}, Python "
    f"{about['python']}, jax {about['jax']} on {about['backend']}, perceiver_stream "
    f"{about['perceiver_stream']}, {about['date']}.{warning}"
  )


def publish(name: str, options: Any, tables: Sequence[Table], about: Mapping[str, Any]) -> None:
  """Prints the tables, writes `<output>/<name>.json`, and the page if `--markdown` is given.

  Args:
    name: Of the script.
    options: As `arguments_of` returned them.
    tables: The measurements.
    about: `machine()` from before measuring, so that the load is that of other programs.
  """
  print(headline(about))
  for table in tables:
    print(f"\n{table.title}\n\n{table.text()}")
    if table.note:
      print(f"\n{table.note}")
  folder = pathlib.Path(options.output)
  folder.mkdir(parents=True, exist_ok=True)
  found = {"machine": about, "tiny": options.tiny, "tables": [t._asdict() for t in tables]}
  (folder / f"{name}.json").write_text(json.dumps(found, indent=2) + "\n")
  if options.markdown:
    text = "\n".join([f"{headline(about)}\n", *(table.markdown() for table in tables)])
    page = pathlib.Path(options.markdown)
    page.write_text(replaced(page.read_text() if page.exists() else "", name, text))


def replaced(page: str, name: str, text: str) -> str:
  """Returns the page with the section between the two marks of `name` replaced, or added."""
  begin, end = f"<!-- {name}: written by benchmarks/{name}.py -->", f"<!-- {name}: end -->"
  section = f"{begin}\n\n{text}\n{end}"
  pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
  if pattern.search(page):
    return pattern.sub(lambda _: section, page)
  return f"{page.rstrip()}\n\n## {name}\n\n{section}\n".lstrip()


# --- video


def write_video(
  path: pathlib.Path, *, height: int, width: int, seconds: float, rate_hz: int = 30
) -> pathlib.Path:
  """Writes a textured scene with a moving noisy camera, with sound, and returns its path."""
  import numpy as np

  from perceiver_stream.reporting.video_writer import VideoWriter

  rng, ticks = np.random.default_rng(0), round(seconds * rate_hz)
  scene = np.zeros((2 * height, 2 * width, 3), np.float32)
  for cell in (64, 32, 16, 8, 4):  # texture at all sizes, the finer the fainter
    noise = rng.normal(size=(-(-2 * height // cell), -(-2 * width // cell), 3)).astype(np.float32)
    noise = noise.repeat(cell, 0).repeat(cell, 1)[: 2 * height, : 2 * width]
    scene += noise * cell**0.5
  scene = np.clip(128 + 6 * scene, 0, 255)
  grain = rng.normal(0, GRAIN, (8, height, width, 1)).astype(np.float32)
  with VideoWriter(path, rate_hz=rate_hz, audio_rate_hz=16000, min_side=1) as movie:
    for i in range(ticks):
      y = round(height / 2 * (1 + np.sin(i / 40)))
      x = round(width / 2 * (1 + np.sin(i / 57)))
      picture = scene[y : y + height, x : x + width] + grain[i % len(grain)]
      movie.write_frame(np.clip(picture, 0, 255).astype(np.uint8))
    movie.write_sound(rng.normal(0, 0.1, round(seconds * 16000)).astype(np.float32))
  return path


if __name__ == "__main__":
  print(headline(machine()))
