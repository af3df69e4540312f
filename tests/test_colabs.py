"""The colabs run from top to bottom at tiny size, and hold no code that belongs in the package."""

import ast
import contextlib
import json
import pathlib
import warnings
from collections.abc import Iterator

import nbformat
import pytest
from IPython.core.inputtransformer2 import TransformerManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

ROOT = pathlib.Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "colabs").glob("*.ipynb"))
MAX_OUTPUT_BYTES = 200_000
MAX_SECONDS_PER_CELL = 300
MODEL_LIBRARIES = {"haiku", "flax", "torch", "tensorflow"}


def read(notebook: pathlib.Path) -> nbformat.NotebookNode:
  return nbformat.read(notebook, as_version=4)


def code_of(notebook: nbformat.NotebookNode) -> ast.Module:
  """Returns the code of all cells as one tree; magics become calls that parse."""
  transform = TransformerManager().transform_cell
  cells = [transform(cell.source) for cell in notebook.cells if cell.cell_type == "code"]
  return ast.parse("\n".join(cells))


def model_code(tree: ast.Module) -> list[str]:
  """Returns what in a notebook belongs in the package: classes, and imports of model libraries."""
  found = []
  for node in ast.walk(tree):
    if isinstance(node, ast.ClassDef):
      found.append(f"class {node.name}")
    elif isinstance(node, ast.Import | ast.ImportFrom):
      modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
      modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
      found += [f"import {name}" for name in modules if name.split(".")[0] in MODEL_LIBRARIES]
  return found


def test_there_is_a_quickstart() -> None:
  assert "quickstart.ipynb" in {path.name for path in NOTEBOOKS}


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NotebookClient]:
  """A client whose one kernel runs all notebooks: importing and compiling for each takes long."""
  settings = {"PERCEIVER_STREAM_TINY": "1", "JAX_PLATFORMS": "cpu"}
  settings["IPYTHONDIR"] = str(tmp_path_factory.mktemp("ipython"))
  empty = nbformat.v4.new_notebook()
  client = NotebookClient(empty, timeout=MAX_SECONDS_PER_CELL, kernel_name="python3")
  running = contextlib.ExitStack()
  with pytest.MonkeyPatch.context() as patch:
    for name, value in settings.items():
      patch.setenv(name, value)
    running.enter_context(client.setup_kernel())
  yield client
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of the kernel and its messages
    running.close()


def run_alone(
  client: NotebookClient, notebook: nbformat.NotebookNode, folder: pathlib.Path
) -> None:
  """Runs all cells in a folder, without the names that earlier notebooks have left."""
  start = f"%reset -f\n%cd -q {folder}\nimport matplotlib.pyplot as p; p.close('all'); del p"
  client.nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(start)])
  client.reset_execution_trackers()
  client.execute_cell(client.nb.cells[0], 0)
  client.nb = notebook
  for index, cell in enumerate(notebook.cells):
    client.execute_cell(cell, index)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the kernel's and its messages' own; cells run elsewhere
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_colab_runs_at_tiny_size(
  path: pathlib.Path, tmp_path: pathlib.Path, kernel: NotebookClient
) -> None:
  notebook = read(path)
  run_alone(kernel, notebook, tmp_path)
  ran = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.execution_count]
  assert ran and any("image/png" in str(cell.outputs) for cell in ran), "it shows no picture"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_colab_holds_no_model_code_and_few_outputs(path: pathlib.Path) -> None:
  notebook = read(path)
  assert not model_code(code_of(notebook)), "move it into the package and import it"
  outputs = [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]
  assert len(json.dumps(outputs)) <= MAX_OUTPUT_BYTES, "clear the outputs before committing"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_colab_installs_and_uses_the_package(path: pathlib.Path) -> None:
  source = "\n".join(cell.source for cell in read(path).cells if cell.cell_type == "code")
  assert "import perceiver_stream" in source or "from perceiver_stream" in source
  assert "pip install" in source, "the first cell installs the package"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_the_first_cell_installs_from_a_checkout_or_a_wheel_and_names_the_hardware(
  path: pathlib.Path,
) -> None:
  cells = read(path).cells
  number, first = next((n, c) for n, c in enumerate(cells) if c.cell_type == "code")
  assert "%pip install -q {WHEEL or CHECKOUT}" in first.source
  assert "jax.devices()" in first.source and "cpu_count" in first.source
  assert "Hardware:" in cells[number - 1].source and "wheel" in cells[number - 1].source


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_notebook_cannot_use_what_another_left_and_its_errors_fail_the_test(
  tmp_path: pathlib.Path, kernel: NotebookClient
) -> None:
  def of(code: str) -> nbformat.NotebookNode:
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])

  run_alone(kernel, of("left = 3"), tmp_path)
  with pytest.raises(CellExecutionError, match="name 'left' is not defined"):
    run_alone(kernel, of("print(left)"), tmp_path)


def test_the_check_for_model_code_can_fail() -> None:
  cells = ["%pip install x", "import haiku as hk", "class Net(hk.Module):\n  pass"]
  notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
  assert model_code(code_of(notebook)) == ["import haiku", "class Net"]
