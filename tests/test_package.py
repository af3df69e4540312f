"""The built wheel, alone in a fresh environment and outside the tree, imports and runs."""

import email
import pathlib
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from collections.abc import Sequence

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
KEPT_OUT = shutil.ignore_patterns(
  ".git", ".venv*", "media", "runs", "build", "dist", "*.egg-info", "__pycache__", ".*_cache"
)

pytestmark = pytest.mark.slow

# One process, because most of the time goes into imports and compiling.
ONE_STEP_AND_COMMANDS = """
import pathlib, sys
import jax, numpy as np
import perceiver_stream
from perceiver_stream import cli
from perceiver_stream.reporting.video_writer import VideoWriter
assert pathlib.Path(perceiver_stream.__file__).is_relative_to(sys.prefix), perceiver_stream.__file__
model = perceiver_stream.build("stream_perceiver/nano")
observation = {
  name: np.zeros((1, *modality.spec.shape), modality.spec.dtype)
  for name, modality in model.modalities.items()
}
params = model.init(jax.random.key(0), observation)
outputs, state = model.step(params, model.initial_state(params), observation)
assert all(np.isfinite(values).all() for values in outputs.predictions.values())
print(perceiver_stream.__version__, sorted(outputs.predictions))

with VideoWriter(pathlib.Path("in.mp4"), rate_hz=25, audio_rate_hz=0, min_side=1) as movie:
  for i in range(9):
    movie.write_frame(np.full((32, 48, 3), 20 * i, np.uint8))
few = ["--config.model.displacements=(1,)", "--config.max_windows=2", "--config.run_dir=run"]
for arguments in (
  ["models", "conv3d", "moog/tiny_world"],
  ["train", "--config=synthetic:nano", *few, "--config.logging.use_report=false"],
  ["report", "run"],
  ["predict", "run", "in.mp4", "--output=out.mp4"],
  ["track", "in.mp4", "--grid=2", "--model=moog/tiny_world", "--output=tracks"],
):
  cli.main(arguments)
"""


def run(command: Sequence[str | pathlib.Path], cwd: pathlib.Path) -> str:
  """Runs a command and returns what it printed; a failure shows all of it."""
  done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True)
  assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
  return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
  """A folder with the source archive and the wheel made from it."""
  folder = tmp_path_factory.mktemp("package")
  shutil.copytree(ROOT, folder / "source", ignore=KEPT_OUT)
  options = ["--no-isolation", "--outdir", folder / "dist"]
  run([sys.executable, "-m", "build", *options, folder / "source"], folder)
  return folder / "dist"


def wheel_in(built: pathlib.Path) -> pathlib.Path:
  (wheel,) = built.glob("*.whl")
  return wheel


def test_wheel_holds_the_package_and_nothing_else(built: pathlib.Path) -> None:
  with zipfile.ZipFile(wheel_in(built)) as wheel:
    names = {name for name in wheel.namelist() if ".dist-info/" not in name}
  package = ROOT / "perceiver_stream"
  kept = {
    str(path.relative_to(ROOT))
    for path in package.rglob("*")
    if path.is_file() and "__pycache__" not in path.parts
  }
  assert names == kept, f"left out: {kept - names}; should not be there: {names - kept}"


def test_source_archive_holds_what_is_needed_to_build(built: pathlib.Path) -> None:
  (archive,) = built.glob("*.tar.gz")
  with tarfile.open(archive) as sdist:
    names = {name.partition("/")[2] for name in sdist.getnames()}
  assert {"LICENSE", "README.md", "pyproject.toml"} <= names


def test_metadata_names_licence_python_and_extras(built: pathlib.Path) -> None:
  with zipfile.ZipFile(wheel_in(built)) as wheel:
    (name,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    metadata = email.message_from_string(wheel.read(name).decode())
    licences = [name for name in wheel.namelist() if name.endswith("/LICENSE")]
  assert metadata["License-Expression"] == "Apache-2.0" and len(licences) == 1
  assert metadata["Requires-Python"] == ">=3.11"
  extras = {
    "gpu",
    "tpu",
    "tf",
    "sim",
    "viz",
    "eval",
    "parity",
    "live",
    "records",
    "hub",
    "active",
    "docs",
    "dev",
  }
  assert set(metadata.get_all("Provides-Extra", [])) == extras
  core = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
  assert len(core) == len(PROJECT["dependencies"])
  assert not [line for line in core if "tensorflow" in line]


@pytest.fixture(scope="module")
def installed(built: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
  """The `bin` of a fresh environment with the wheel."""
  folder = tmp_path_factory.mktemp("installed")
  run([sys.executable, "-m", "venv", "--without-pip", "fresh"], folder)
  bin_folder = folder / "fresh" / "bin"
  (site,) = (folder / "fresh" / "lib").glob("python*/site-packages")
  # Dependencies come from this environment. A path in a .pth file does not bring that folder's own
  # .pth files along, so the editable install of the tree stays out of sight.
  (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
  options = ["--no-deps", "--no-index", "--ignore-installed", "--quiet"]
  pip = [sys.executable, "-m", "pip", "--python", bin_folder / "python"]
  pip += ["--disable-pip-version-check"]
  run([*pip, "install", *options, wheel_in(built)], folder)
  return bin_folder


def test_installed_wheel_runs_a_step_and_commands_in_an_empty_folder(
  installed: pathlib.Path, built: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  printed = run([installed / "python", "-I", "-c", ONE_STEP_AND_COMMANDS], tmp_path)
  with zipfile.ZipFile(wheel_in(built)) as wheel:
    version = next(name for name in wheel.namelist() if name.endswith("/METADATA")).split("-")[1]
  assert printed.startswith(version.removesuffix(".dist")) and "pixels" in printed
  assert "moog/tiny_world" in printed and "bundled" in printed
  assert "Done after 2 windows; all files are in run." in printed
  assert "out.mp4: 9 frames, " in printed
  assert "4 points, 9 frames" in printed
  names = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")}
  assert {"run/report.html", "run/metrics.jsonl", "out.mp4", "tracks/overlay.mp4"} <= names


def test_installed_wheel_brings_the_console_command(
  installed: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  assert "\n  track " in run([installed / "perceiver-stream"], tmp_path)


def test_constraints_pin_every_dependency_and_nothing_local() -> None:
  lines = (ROOT / "constraints.txt").read_text().splitlines()
  pins = [line for line in lines if line and not line.startswith("#")]
  assert all(line.count("==") == 1 and "@" not in line and "/" not in line for line in pins)
  pinned = {line.partition("==")[0].lower().replace("_", "-") for line in pins}
  wanted = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"]]
  names = {line.split(">")[0].split("[")[0].lower().replace("_", "-") for line in wanted}
  assert names <= pinned, f"constraints.txt does not pin {names - pinned}"
