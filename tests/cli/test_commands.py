"""The command line: the list of commands, each one's help, and the scripts that share their code."""

import importlib
import json
import pathlib
import re
import subprocess
import sys

import commands
import numpy as np
import pytest
from drawn_clips import drawn

from perceiver_stream import cli, zoo
from perceiver_stream.models.mapping import export_params
from perceiver_stream.version import __version__
from perceiver_stream.zoo import clip_encoders
from perceiver_stream.zoo.summary import summarize

OTHER_NAMES = {"latents": "extract_latents", "media": "get_media", "shards": "make_shards"}
SCRIPTS = sorted((commands.ROOT / "scripts").glob("*.py"))


@pytest.fixture
def run(monkeypatch, capsys):
  """Runs the program in this process; returns its exit status, output and errors."""

  def call(*arguments):
    monkeypatch.setattr(sys, "argv", ["/bin/perceiver-stream", *arguments])
    code = 0
    try:
      cli.main()
    except SystemExit as stop:
      code = stop.code or 0
    shown = capsys.readouterr()
    return code, shown.out, shown.err

  return call


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_help_ends_with_success_shows_a_command_and_one_name_for_outputs(name, run):
  code, text, _ = run(name, "--help")
  assert code == 0 and text.startswith(f"usage: perceiver-stream {name} ")
  assert f"\n  perceiver-stream {name}" in text and "scripts/" not in text
  assert cli.summary(name) in text and len(cli.summary(name)) <= 72
  options = set(re.findall(r"(?<![\w-])--(?:\[no\])?([a-z_]+)", text))
  assert not options & {"out", "outputs", "to", "target"} and "once_output" not in text
  writes = name not in ("train", "serve", "report", "classify", "models")
  assert ("output" in options) == writes


def test_every_module_is_a_command():
  modules = pathlib.Path(cli.__file__).parent.glob("[!_]*.py")
  assert sorted(path.stem for path in modules) == sorted(cli.COMMANDS)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_scripts_run_the_function_of_their_command(path):
  names = {script: command for command, script in OTHER_NAMES.items()}
  module = importlib.import_module(f"perceiver_stream.cli.{names.get(path.stem, path.stem)}")
  assert commands.load(path.stem).main is module.main
  assert len(path.read_text().splitlines()) <= 11


def test_every_command_that_needs_a_checkout_has_a_script():
  found = {path.stem for path in SCRIPTS}
  assert found == {OTHER_NAMES.get(name, name) for name in cli.COMMANDS if name != "models"}


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",), ("help",)])
def test_without_a_command_the_list_is_printed(arguments, run):
  code, text, error = run(*arguments)
  assert code == 0 and error == "" and text.startswith("usage: perceiver-stream COMMAND")
  assert re.findall(r"^  (\w+) +\w", text, re.MULTILINE) == list(cli.COMMANDS)


def test_the_list_is_printed_without_jax():
  code = "import sys; from perceiver_stream import cli; cli.main([]); print(*sys.modules)"
  done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
  loaded = {name.split(".")[0] for name in done.stdout.splitlines()[-1].split()}
  assert "perceiver_stream" in loaded and not loaded & {"jax", "haiku", "numpy", "av", "grain"}


def test_an_unknown_command_is_an_error_with_the_nearest(run):
  code, text, error = run("trak", "MY.mp4")
  assert code == 2 and text == ""
  assert "perceiver-stream: there is no command 'trak'. Did you mean 'track'? The comm" in error


def test_the_version_is_printed(run):
  assert run("--version") == (0, f"perceiver-stream {__version__}\n", "")


def test_errors_name_the_command(run, tmp_path):
  code, _, _ = run("report", str(tmp_path / "nowhere"))
  assert code.startswith("perceiver-stream report: ")


def test_models_are_a_table_of_facts(run):
  code, text, _ = run("models", "conv3d", "moog/tiny_world")
  header, *rows = (line.split() for line in text.splitlines())
  assert code == 0 and header == ["name", "parameters", "state", "weights", "released", "inputs"]
  assert [row[0] for row in rows] == ["conv3d/nano", "conv3d/tiny", "moog/tiny_world"]
  assert rows[0][1:] == "9,712 12 KiB none ours pixels 16×16×3".split()
  assert rows[2][1:] == "282,131 160 KiB bundled yes pixels 64×64×3".split()


def test_models_as_json_and_by_an_unknown_name(run):
  code, text, _ = run("models", "--json", "conv3d/nano")
  (found,) = json.loads(text)
  assert code == 0 and found["state_bytes"] == 12292 and found["inputs"] == {"pixels": [16, 16, 3]}
  code, text, _ = run("models", "mog")
  assert "perceiver-stream models: model='mog' is not known. Did you mean 'moog'?" in code


def test_only_what_is_read_is_an_input():
  found = summarize("perceiver_flow/nano")  # predicts flow
  assert found.weights == "none" and found.equals_released == "no"
  assert found.inputs == {
    "pixels": zoo.build("perceiver_flow/nano").modalities["pixels"].spec.shape
  }


@pytest.mark.parametrize("family", zoo.FAMILIES.values(), ids=lambda family: family.name)
def test_variants_compared_with_released_code_exist_and_name_it(family):
  assert set(family.equals_released) <= set(family.variants)
  assert family.card.code or not family.equals_released


def test_encoders_of_clips_are_listed_with_what_is_causal(run):
  code, text, _ = run("models", "video_resnet")
  rows = {line.split()[0]: line.split()[1:] for line in text.splitlines()[1:]}
  assert code == 0
  assert (
    rows["video_resnet/r3d_18"] == "33,371,472 clips released file yes clips 16×112×112×3".split()
  )
  assert rows["video_resnet/nano_causal"][1:3] != ["clips", "none"]
  assert rows["video_resnet/nano_causal"][2] == "KiB"


def test_encoders_of_clips_are_converted(run, tmp_path):
  loaded = drawn(clip_encoders.build("video_resnet/nano"))
  rules = clip_encoders.FAMILIES["video_resnet"].rules
  assert rules
  flat = export_params(clip_encoders.merged(*loaded[1:]), rules(loaded.encoder.config))
  np.savez(tmp_path / "r.npz", **flat, **{"stem.1.num_batches_tracked": np.int64(3)})
  code, text, _ = run(
    "convert", str(tmp_path / "r.npz"), f"--output={tmp_path}/r.safetensors", "--set", "causal=True"
  )
  assert code == 0 and "r.safetensors: video_resnet, " in text
  assert clip_encoders.load(tmp_path / "r.safetensors").encoder.causal
