"""Imports only point down, heavy libraries stay out of the way, and the public names hold."""

import ast
import importlib
import inspect
import json
import pathlib
import subprocess
import sys

import pytest

import perceiver_stream

ROOT = pathlib.Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "perceiver_stream"
FILES = sorted(PACKAGE.rglob("*.py"))

# room -> the rooms it may import, besides itself. `version`, `types` and `utils` import nothing of ours.
ROOMS = {
  "version": set(),
  "types": set(),
  "utils": set(),
  "files": {"types", "utils"},
  "nn": {"types", "utils"},
  "core": {"nn", "types", "utils"},
  "modalities": {"nn", "types", "utils"},
  "models": {"core", "modalities", "nn", "types", "utils"},
  "execution": {"models", "nn", "types", "utils"},
  "zoo": {"models", "core", "files", "modalities", "nn", "types", "utils", "version"},
  "streams": {"files", "types", "utils"},
  "evaluation": {"files", "models", "modalities", "streams", "types", "utils", "version", "zoo"},
  "reporting": {"files", "modalities", "types", "utils", "version", "zoo"},
  "training": {
    "evaluation",
    "execution",
    "files",
    "models",
    "modalities",
    "nn",
    "reporting",
    "streams",
    "types",
    "utils",
    "version",
    "zoo",
  },
  "inference": {
    "evaluation",
    "files",
    "modalities",
    "models",
    "reporting",
    "streams",
    "training",
    "types",
    "utils",
    "version",
    "zoo",
  },
  "lab": {
    "core",
    "evaluation",
    "execution",
    "files",
    "inference",
    "modalities",
    "models",
    "nn",
    "reporting",
    "streams",
    "training",
    "types",
    "utils",
    "zoo",
  },  # fmt: skip
}
ROOMS["serving"] = {"inference", *ROOMS["inference"]}
# Entry points: all packages, and the names that `perceiver_stream` itself hands out.
ROOMS |= {"configs": {*ROOMS, ""}, "cli": {*ROOMS, ""}, "__main__": {"cli"}}
TOP = set(ROOMS)  # perceiver_stream/__init__.py hands out names from everywhere

# What a stream may use from outside the standard library, also inside its functions.
STREAMS_OUTSIDE = {"numpy", "av", "grain", "jaxtyping", "array_record"}
HEAVY = (
  "av",
  "cv2",
  "matplotlib",
  "tensorflow",
  "orbax",
  "grain",
  "tensorboardX",
  "tensorboard",
  "vizdoom",
  "mujoco",
  "rerun",
)
LIGHT_ROOMS = ("types", "files", "nn", "core", "modalities", "models", "execution")


def module_of(path: pathlib.Path) -> str:
  """Returns the dotted name of the module in a file."""
  parts = list(path.relative_to(ROOT).with_suffix("").parts)
  return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


# What the folder of a model family holds for higher rooms; nothing else of `models` may import it.
OF_FAMILIES = {"objective": "training", "experiments": "configs"}


def room_of(module: str) -> str:
  """Returns the room of a dotted name: `nn` for `perceiver_stream.nn.attention`, `` for the top."""
  parts = [*module.split("."), "", "", ""]
  return OF_FAMILIES.get(parts[3], parts[1]) if parts[1] == "models" else parts[1]


def imports_of(tree: ast.AST, module: str, is_package: bool) -> list[tuple[str, int]]:
  """Returns all that is imported, at the top or inside functions: dotted names with lines."""
  found = []
  for node in ast.walk(tree):
    if isinstance(node, ast.Import):
      found += [(alias.name, node.lineno) for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
      base = node.module or ""
      if node.level:
        parts = module.split(".")
        parts = parts[: len(parts) - node.level + is_package]
        base = ".".join([*parts, *([node.module] if node.module else [])])
      # `from perceiver_stream import nn` names a room in what it imports, not in where from.
      found += [(f"{base}.{alias.name}", node.lineno) for alias in node.names]
  return found


def arrows_up(tree: ast.AST, module: str, is_package: bool = False) -> list[str]:
  """Returns a line on every import of ours that the room of `module` may not make."""
  room = room_of(module)
  allowed = {room} | (ROOMS[room] if room else TOP)
  wrong = []
  for name, line in imports_of(tree, module, is_package):
    if name.split(".")[0] == "perceiver_stream" and room_of(name) not in allowed:
      wrong.append(f"{module}:{line} imports {name}; {room} may import {sorted(allowed)}")
  return wrong


def top_level(tree: ast.Module) -> ast.Module:
  """Returns the module without its functions and what only type checkers read."""

  class Strip(ast.NodeTransformer):
    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.Pass:
      return ast.copy_location(ast.Pass(), node)

    def visit_If(self, node: ast.If) -> ast.AST:
      typing_only = ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")
      return ast.copy_location(ast.Pass(), node) if typing_only else self.generic_visit(node)

  return Strip().visit(ast.parse(ast.unparse(tree)))


def parse(path: pathlib.Path) -> ast.Module:
  return ast.parse(path.read_text(), filename=str(path))


def test_every_module_has_a_room() -> None:
  rooms = {room_of(module_of(path)) for path in FILES} - {""}
  assert rooms <= set(ROOMS), f"add {rooms - set(ROOMS)} to ROOMS, and say what it may import"


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_imports_point_down(path: pathlib.Path) -> None:
  wrong = arrows_up(parse(path), module_of(path), path.name == "__init__.py")
  assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
  "source",
  [
    "import perceiver_stream.training",
    "from perceiver_stream import training",
    "from perceiver_stream.models.base import Model",
    "from ..models import base",
    "from .. import streams",
    "def f():\n  from perceiver_stream.streams import video",
    "from perceiver_stream.models.mine.objective import Config",
  ],
)
def test_the_check_sees_every_form_of_an_arrow_up(source: str) -> None:
  assert arrows_up(ast.parse(source), "perceiver_stream.nn.attention")


def test_only_the_top_level_counts_as_heavy() -> None:
  source = "import numpy\nif TYPE_CHECKING:\n  import av\nclass A:\n  def f(self):\n    import cv2"
  assert [name for name, _ in imports_of(top_level(ast.parse(source)), "m", False)] == ["numpy"]


def test_the_check_lets_arrows_down_pass() -> None:
  source = "from ..types import Observation\nfrom . import norms\nimport perceiver_stream.nn.norms"
  assert not arrows_up(ast.parse(source), "perceiver_stream.nn.attention")
  assert not arrows_up(ast.parse("from .attention import f"), "perceiver_stream.nn", True)


@pytest.mark.parametrize("path", sorted((PACKAGE / "streams").rglob("*.py")), ids=module_of)
def test_streams_know_nothing_of_models(path: pathlib.Path) -> None:
  outside = {name.split(".")[0] for name, _ in imports_of(parse(path), module_of(path), False)}
  extra = outside - STREAMS_OUTSIDE - set(sys.stdlib_module_names) - {"perceiver_stream"}
  assert not extra, f"{module_of(path)} imports {extra}; a stream may use {STREAMS_OUTSIDE}"


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_no_heavy_import_where_a_model_is_used(path: pathlib.Path) -> None:
  module = module_of(path)
  banned = set(HEAVY if room_of(module) in (*LIGHT_ROOMS, "") else ("tensorflow", "tensorboard"))
  names = imports_of(top_level(parse(path)), module, path.name == "__init__.py")
  found = {name for name, _ in names if name.split(".")[0] in banned}
  assert not found, f"{module} imports {found} at its top; import it in the function that uses it"


@pytest.mark.parametrize("use", ["", "; perceiver_stream.build"])
def test_import_loads_no_decoder_no_plotting_no_tensorflow(use: str) -> None:
  code = f"import json, sys, perceiver_stream{use}; print(json.dumps(sorted(sys.modules)))"
  done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
  loaded = {name.split(".")[0] for name in json.loads(done.stdout)}
  assert not loaded & set(HEAVY)


PUBLIC = [
  "__version__",
  "build",
  "config",
  "core",
  "evaluation",
  "execution",
  "inference",
  "lab",
  "load",
  "modalities",
  "models",
  "names",
  "nn",
  "reporting",
  "save",
  "streams",
  "training",
  "types",
  "zoo",
]


def test_public_names_are_pinned() -> None:
  assert list(perceiver_stream.__all__) == PUBLIC
  assert list(PUBLIC) == sorted(PUBLIC), "keep __all__ sorted"
  assert set(PUBLIC) <= set(dir(perceiver_stream))


@pytest.mark.parametrize("name", [name for name in PUBLIC if name != "__version__"])
def test_public_names_exist_and_say_what_they_are(name: str) -> None:
  value = getattr(perceiver_stream, name)
  doc = inspect.getdoc(value)
  assert doc and len(doc.split()) >= 3, f"perceiver_stream.{name} has no docstring"


def test_an_unknown_public_name_is_an_attribute_error() -> None:
  with pytest.raises(AttributeError, match="no_such_name"):
    _ = perceiver_stream.no_such_name  # pyright: ignore[reportAttributeAccessIssue]


def test_every_module_imports_and_has_a_docstring() -> None:
  for path in FILES:
    assert ast.get_docstring(parse(path)) or not path.read_text().strip(), path
    importlib.import_module(module_of(path))


ENTRY_POINTS = [
  path for folder in ("scripts", "benchmarks") for path in sorted((ROOT / folder).rglob("*.py"))
]


@pytest.mark.parametrize("path", ENTRY_POINTS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_entry_points_use_public_names_only(path: pathlib.Path) -> None:
  names = [name for name, _ in imports_of(parse(path), path.stem, False)]
  private = [
    name
    for name in names
    if name.startswith("perceiver_stream") and any(part[0] == "_" for part in name.split(".")[1:])
  ]
  assert not private, f"{path.name} reaches for {private}"
