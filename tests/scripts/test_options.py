"""Options of all commands: old names still work, and what is missing is refused."""

import argparse
import sys

import pytest

from perceiver_stream.inference import cli, model_loading
from perceiver_stream.utils.options import current_names, parse


def old_and_new(arguments, last=False):
  parser = argparse.ArgumentParser()
  parser.add_argument("video")
  parser.add_argument("--output", required=not last)
  parser.add_argument("--zoom", type=int, default=1)
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(sys, "argv", ["scripts/watch.py", *arguments])
    args = parse(parser, {"--out": "--output"}, last=last)
  return args.video, args.output, args.zoom


@pytest.mark.parametrize(
  ("arguments", "last", "said"),
  [
    (["a.mp4", "--output=x", "--zoom=2"], False, ""),
    (["a.mp4", "--out=x", "--zoom=2"], False, "watch.py: --out is now --output; version 0.2"),
    (["a.mp4", "--out", "x", "--zoom", "2"], False, "watch.py: --out is now --output; version"),
    (["a.mp4", "--output", "x", "--zoom=2"], True, ""),
    (["a.mp4", "x", "--zoom=2"], True, "watch.py: the last argument, 'x', is now --output=x; vers"),
    (["--zoom=2", "a.mp4", "x"], True, "the last argument, 'x', is now --output=x"),
    (["a.mp4", "--zoom=2", "x"], True, "the last argument, 'x', is now --output=x"),
  ],
)
def test_old_names_work_and_say_the_new_ones(arguments, last, said, capsys):
  assert old_and_new(arguments, last) == ("a.mp4", "x", 2)
  shown = capsys.readouterr()
  assert said in shown.err and bool(said) == bool(shown.err) and not shown.out


@pytest.mark.parametrize(
  ("arguments", "last", "said"),
  [
    (["a.mp4"], False, "the following arguments are required: --output"),
    (["a.mp4"], True, "the following arguments are required: --output"),
    (["a.mp4", "x", "--output=y"], True, "unrecognized arguments: x"),
    (["a.mp4", "x", "--out=y"], False, "unrecognized arguments: x"),
  ],
)
def test_what_is_missing_or_twice_is_refused(arguments, last, said, capsys):
  with pytest.raises(SystemExit) as stop:
    old_and_new(arguments, last)
  assert stop.value.code == 2 and said in capsys.readouterr().err


def test_values_and_other_options_are_left_as_they_are(capsys):
  renamed = {"--to": "--output"}
  given = ["--note=--to=x", "--token", "to", "--output=a=b", "-t"]
  assert current_names(given, renamed) == given and capsys.readouterr().err == ""
  assert current_names(["--to=a=b"], renamed) == ["--output=a=b"]


def test_random_weights_and_old_names_of_weights_are_one_line_of_a_script(capsys, monkeypatch):
  monkeypatch.setattr(sys, "argv", ["scripts/flow.py"])
  with cli.readable_errors():
    model_loading.warn_untrained("perceiver_flow/published")
    model_loading.bundled.current("moog/tiny")
  lines = capsys.readouterr().err.splitlines()
  assert len(lines) == 2
  assert lines[0].startswith("flow.py: perceiver_flow/published has random weights")
  assert lines[1].startswith("flow.py: the weights of 'moog/tiny' are now called 'moog/tiny_world'")
