"""Under which names a server answers, the address that it prints, and its port."""

import argparse
import types

import pytest

from perceiver_stream.serving import running
from perceiver_stream.serving.guard import Guard


def refusal(host: str, asked: str) -> str:
  connection = types.SimpleNamespace(headers={"host": asked}, query_params={})
  return Guard(host).refusal(connection, needs_token=False)


@pytest.mark.parametrize(
  ("host", "asked", "is_served"),
  [
    ("127.0.0.1", "127.0.0.1:8765", True),
    ("127.0.0.1", "192.168.1.5:8765", False),
    ("192.168.1.5", "192.168.1.5:8765", True),
    ("192.168.1.5", "192.168.1.6:8765", False),
    ("0.0.0.0", "192.168.1.5:8765", True),
    ("0.0.0.0", "localhost:8765", True),
    ("0.0.0.0", "evil.example:8765", False),
    ("0.0.0.0", "", False),
    ("::", "[fe80::1]:8765", True),
    ("::", "192.168.1.5", True),
    ("::", "[evil", False),
    ("MyBox", "MyBox:8765", True),
    ("MyBox", "mybox", True),
    ("MyBox", "192.168.1.5", False),
  ],
)
def test_a_server_answers_to_its_host_and_with_a_wildcard_to_every_address(host, asked, is_served):
  assert ("addressed by another name" in refusal(host, asked)) == (not is_served)


@pytest.mark.parametrize(
  ("host", "address"),
  [
    ("127.0.0.1", "127.0.0.1"),
    ("0.0.0.0", "127.0.0.1"),
    ("::", "[::1]"),
    ("fe80::1", "[fe80::1]"),
    ("MyBox", "MyBox"),
  ],
)
def test_the_printed_address_is_one_that_is_served(host, address):
  first, *more = running.greeting(host, 8765, "/?token=x").splitlines()
  assert first == f"Open http://{address}:8765/?token=x"
  assert not refusal(host, f"{address}:8765")
  assert any("Others on this network" in line for line in more) == (host != "127.0.0.1")
  assert any("IP address of this machine" in line for line in more) == (host in ("0.0.0.0", "::"))
  assert running.greeting(host, 1, "/", opens=False).startswith("Serving at http://")


@pytest.mark.parametrize("text", ["99999", "-1", "x", "", "65536"])
def test_a_port_out_of_range_is_refused(text, capsys):
  parser = argparse.ArgumentParser()
  running.add_address(parser, port=8765, clients=8)
  assert parser.parse_args(["--port=65535"]).port == 65535
  with pytest.raises(SystemExit):
    parser.parse_args([f"--port={text}"])
  assert "use 0 to 65535" in capsys.readouterr().err
