"""Size and shape of the package: how much code, where a family lives, what one online run calls.

  python benchmarks/structure.py                      # this checkout
  python benchmarks/structure.py --before=FOLDER      # beside another checkout, e.g. `git worktree add FOLDER d1af635`

Counts are of the package's Python files. The online run trains the smallest synthetic config for two windows and
writes its report, in a process of its own under a profiler; its files and edges are those of the
package: an edge is one file whose function calls a function of another.
"""

import ast
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator

import common

ROOT = pathlib.Path(__file__).resolve().parents[1]
FAMILIES = ("moog", "rvm")
RELATIVE = ("What ", "Which ", "Where ", "How ", "Whether ", "Who ", "When ")
# Run in the other checkout's folder: argument 1 is the config, argument 2 the folder of the run.
PROFILED = """
import json, os, pathlib, sys, threading
root = os.getcwd() + "/perceiver_stream/"
edges = set()
def note(frame, event, _):
  if event == "call" and frame.f_back and frame.f_code.co_filename.startswith(root):
    back = frame.f_back
    while back and not back.f_code.co_filename.startswith(root):
      back = back.f_back
    if back and back.f_code.co_filename != frame.f_code.co_filename:
      edges.add((back.f_code.co_filename, frame.f_code.co_filename))
sys.path.insert(0, os.getcwd())
from perceiver_stream import training
config = training.load_config(sys.argv[1])
config.max_windows, config.run_dir = 2, sys.argv[2]
threading.setprofile(note); sys.setprofile(note)
training.train(config)
sys.setprofile(None); threading.setprofile(None)
print("EDGES", json.dumps(sorted(edges)))
"""


def measures(root: pathlib.Path, *, run: bool = True) -> dict[str, float]:
  """Returns the measures of a checkout by name."""
  folder = root / "perceiver_stream"
  files = {path.relative_to(folder): path.read_text() for path in sorted(folder.rglob("*.py"))}
  trees = {path: ast.parse(text) for path, text in files.items()}
  text = "\n".join(files.values())
  found: dict[str, float] = {"files": len(files), "lines": text.count("\n") + 1}
  for family in FAMILIES:
    own = [path for path in files if family in path.as_posix()]
    found[f"files named after {family}"] = len(own)
    found[f"packages with files named after {family}"] = len({path.parts[0] for path in own})
  found |= {
    "uses of name_like": len(re.findall(r"@hk\.name_like", text)),
    "public functions and classes defined in several files": _defined_twice(trees),
    "score keys spelt in f-strings": len(re.findall(r'f"[^"\n]*\}@\{', text)),
    'literals "pixels"': text.count('"pixels"'),
    "getattr with a default": len(re.findall(r"getattr\([^()]*,[^()]*,[^()]*\)", text)),
    "files in training/": sum(path.parts[0] == "training" for path in files),
    "lines in training/": sum(t.count("\n") for p, t in files.items() if p.parts[0] == "training"),
    "docstrings that open with a relative clause": sum(map(_opens_so, _docstrings(trees))),
  }
  return found | (_online(root) if run else {})


def _defined_twice(trees: dict[pathlib.Path, ast.Module]) -> int:
  kinds = (ast.FunctionDef, ast.ClassDef)
  names = Counter(
    node.name
    for tree in trees.values()
    for node in tree.body
    if isinstance(node, kinds) and not node.name.startswith("_")
  )
  return sum(count > 1 for count in names.values())


def _docstrings(trees: dict[pathlib.Path, ast.Module]) -> Iterator[str]:
  kinds = (ast.Module, ast.FunctionDef, ast.ClassDef)
  for tree in trees.values():
    for node in ast.walk(tree):
      if isinstance(node, kinds) and (said := ast.get_docstring(node)):
        yield said


def _opens_so(docstring: str) -> bool:
  return docstring.startswith(RELATIVE)


def _online(root: pathlib.Path) -> dict[str, float]:
  """Returns the files and edges of one online run."""
  with tempfile.TemporaryDirectory() as runs:
    config = root / "configs" / "synthetic.py"
    command = [sys.executable, "-c", PROFILED, f"{config}:nano", f"{runs}/run"]
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
      command, cwd=root, env=environment, capture_output=True, text=True, check=False
    )
  lines = [line for line in done.stdout.splitlines() if line.startswith("EDGES ")]
  if not lines:
    raise RuntimeError(f"structure: the run of {root} failed: {done.stderr[-500:]}")
  edges = json.loads(lines[0].removeprefix("EDGES "))
  return {
    "files of one online run": len({file for edge in edges for file in edge}),
    "edges between files of one online run": len(edges),
  }


def main(argv: list[str] | None = None) -> None:
  options = common.arguments_of(argv, __doc__ or "", globals(), {"before": ""})
  now = measures(ROOT, run=not options.tiny)
  before = measures(pathlib.Path(options.before), run=not options.tiny) if options.before else now
  rows = [
    [name, before[name], now[name], now[name] / before[name] if before[name] else None]
    for name in now
  ]
  columns = ["measure", "before", "now", "x before"]
  common.publish(
    "structure", options, [common.Table("Structure", columns, rows, "")], common.machine()
  )


if __name__ == "__main__":
  main()
