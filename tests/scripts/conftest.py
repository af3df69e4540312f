"""A fixture that calls scripts."""

import commands
import pytest


@pytest.fixture
def command(monkeypatch, capsys):
  """Runs a script here, with arguments, and returns what it prints."""

  def call(name, *args):
    commands.call(monkeypatch, name, *args)
    return capsys.readouterr().out

  return call
