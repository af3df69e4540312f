"""Lets the tests of this folder share `commands`."""

import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import commands


@pytest.fixture
def command(monkeypatch, capsys):
  """Runs a script here, with arguments, and returns what it prints."""

  def call(name, *args):
    commands.call(monkeypatch, name, *args)
    return capsys.readouterr().out

  return call
