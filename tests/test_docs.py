"""The examples in README.md and docs/ run, and what they point at exists.

Python blocks of one file run in order and share their names, like a session. A block fenced as
"python no-run" is only compiled, and so is a file of a package, "python models/x.py": another test
writes and runs it. Shell blocks are not run: their make targets, commands, scripts,
flags, configs and extras are checked to exist.
"""

import contextlib
import functools
import io
import itertools
import pathlib
import pkgutil
import re
import runpy
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from perceiver_stream import cli
from perceiver_stream.training import load_config

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^( *)```(\w+)([^\n]*)\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
LINK = re.compile(
  r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)|(?:src|href)=\"([^\"]+)\""
)
SHELL = ("bash", "sh", "shell", "console")
ENVIRONMENT = re.compile(r"[A-Z_][A-Z0-9_]*=.*")
TOOLS = {"cd", "git", "export", "source", "ls", "mkdir", "tensorboard", "kill", "ruff", "pytest"}
LAUNCHERS = {"srun", "gcloud", "scontrol", "grep"}  # known; what the first two start is checked
MAX_NO_RUN = 3


class Block(NamedTuple):
  """A fenced block of a page."""

  page: pathlib.Path
  line: int  # of its first line of code
  language: str
  tags: str
  code: str


def blocks_of(page: pathlib.Path) -> list[Block]:
  text = page.read_text()
  found = []
  for match in FENCE.finditer(text):
    line = text.count("\n", 0, match.start(4)) + 1
    indent = match.group(1)
    code = "".join(part.removeprefix(indent) for part in match.group(4).splitlines(True))
    found.append(Block(page, line, match.group(2), match.group(3).strip(), code))
  return found


BLOCKS = [block for page in PAGES for block in blocks_of(page)]
PYTHON = [block for block in BLOCKS if block.language == "python"]


def name_of(page: pathlib.Path) -> str:
  return str(page.relative_to(ROOT))


def compiled(block: Block) -> Any:
  """Compiles a block so that a traceback shows its line in the page."""
  return compile("\n" * (block.line - 1) + block.code, str(block.page), "exec")


@pytest.mark.slow
@pytest.mark.parametrize("page", list(dict.fromkeys(block.page for block in PYTHON)), ids=name_of)
def test_python_blocks_run(
  page: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  monkeypatch.chdir(tmp_path)
  names: dict[str, Any] = {"__name__": "__main__"}
  for block in PYTHON:
    if block.page == page and not block.tags:
      exec(compiled(block), names)


def test_few_python_blocks_are_left_out_and_all_compile() -> None:
  files = [block for block in PYTHON if block.tags.endswith(".py")]
  assert {block.tags for block in PYTHON if block not in files} <= {"", "no-run"}
  left_out = [f"{name_of(block.page)}:{block.line}" for block in PYTHON if block.tags == "no-run"]
  assert len(left_out) <= MAX_NO_RUN, left_out
  for block in PYTHON:
    compiled(block)


def test_readme_shows_install_and_a_running_example_in_its_first_40_lines() -> None:
  first = (ROOT / "README.md").read_text().splitlines()[:40]
  assert any(re.search(r"\bpip install\b|\bmake \w+", line) for line in first)
  assert any(block.page.name == "README.md" and block.line < 40 for block in PYTHON)


# --- shell blocks


def commands_of(block: Block) -> list[list[str]]:
  """Returns the commands of a shell block as words; only the lines after `$` of a console."""
  lines = block.code.replace("\\\n", " ").splitlines()
  if block.language == "console":
    lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
  commands = []
  for line in lines:
    words: list[str] = []
    for word in [*shlex.split(line, comments=True), ";"]:
      if word in ("&&", "||", "|", ";", "&"):
        commands.append(words)
        words = []
      else:
        words.append(word)
  return [command for command in commands if command]


SHELL_COMMANDS = [
  (f"{name_of(block.page)}:{block.line}: {shlex.join(command)}", command)
  for block in BLOCKS
  if block.language in SHELL
  for command in commands_of(block)
]


@functools.cache
def help_of(program: str) -> str:
  """Returns what `--help` of `perceiver-stream COMMAND`, or of a script, prints."""
  name = program.removeprefix(f"{cli.PROGRAM} ")
  if name == program:
    return help_of_script(ROOT / program)
  return printed_at_exit(lambda: cli.main([name, "--help"]), sys.argv)


def printed_at_exit(run: Callable[[], Any], argv: list[str]) -> str:
  """Returns what `run` prints until it ends the process, with success."""
  shown = io.StringIO()
  with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(shown):
    patch.setattr(sys, "argv", list(argv))  # a command may set it
    with pytest.raises(SystemExit) as stop:
      run()
  assert not stop.value.code, shown.getvalue()
  return shown.getvalue()


def help_of_script(path: pathlib.Path) -> str:
  """Returns what `path --help` prints; in this process, where its flags are its own."""
  if re.search(r"\b(absl|cli)\b", path.read_text()):  # absl's flags belong to the process
    done = subprocess.run([sys.executable, path, "--help"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr
  modules = set(sys.modules)
  with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(path.parent)
    start = functools.partial(runpy.run_path, str(path), run_name="__main__")
    shown = printed_at_exit(start, [str(path), "--help"])
  for name in set(sys.modules) - modules:  # scripts of one folder import each other
    if pathlib.Path(getattr(sys.modules[name], "__file__", None) or "").parent == path.parent:
      del sys.modules[name]
  return shown


@functools.cache
def config_of(flag: str) -> Any:
  """Returns the config that `--config=online:tiny` or `--config=file.py:variant` names."""
  return load_config(f"{ROOT}/{flag}" if ".py" in flag else flag)


def check_field(config: Any, path: str) -> None:
  """Fails unless the dotted `path` leads to a field of `config`."""
  for part in path.split("."):
    if isinstance(config, dict):
      assert part in config, f"no '{part}' of '{path}' in the config; it has {sorted(config)}"
      config = config[part]
    else:
      assert hasattr(config, part), f"no '{part}' of '{path}' in {type(config).__name__}"
      config = getattr(config, part)


def program_of(script: str) -> str:
  """Returns the script, or `perceiver-stream COMMAND` if it only runs a command's `main`."""
  assert (ROOT / script).is_file(), f"{script} does not exist"
  found = re.search(r"from perceiver_stream\.cli\.(\w+) import main", (ROOT / script).read_text())
  return f"{cli.PROGRAM} {found.group(1)}" if found else script


def check_arguments(program: str, arguments: list[str]) -> None:
  """Fails unless the program knows the options, and its config the fields."""
  flags = [word.partition("=")[0] for word in arguments if word.startswith("--")]
  config = next((word[9:] for word in arguments if word.startswith("--config=")), None)
  for flag in flags:
    if flag.startswith("--config."):
      if config:
        check_field(config_of(config), flag.removeprefix("--config."))
      continue
    known = re.search(rf"{re.escape(flag)}\b", help_of(program))
    assert known, f"{program} --help does not mention {flag}"


def started_by(tool: str, arguments: list[str]) -> list[list[str]]:
  """Returns the commands that a launcher starts elsewhere."""
  if tool == "srun":
    return [list(itertools.dropwhile(lambda word: word.startswith("-"), arguments))]
  inner = [word.removeprefix("--command=") for word in arguments if word.startswith("--command=")]
  return [command for code in inner for command in commands_of(Block(ROOT, 1, "bash", "", code))]


def check_command(command: list[str]) -> None:
  """Fails unless what a documented command names is there."""
  while command and ENVIRONMENT.fullmatch(command[0]):
    command = command[1:]
  if not command:
    return
  tool, *arguments = command
  tool = pathlib.PurePath(tool).name
  if tool == "make":
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = [word for word in arguments if not word.startswith("-") and "=" not in word]
    assert set(named) <= targets, f"the Makefile has {sorted(targets)}"
  elif tool in ("python", "python3") and arguments and arguments[0].endswith(".py"):
    check_arguments(program_of(arguments[0]), arguments[1:])
  elif tool in ("python", "python3"):
    assert arguments[:1] in (["-m"], ["-c"]), "name a script of the repository, -m or -c"
    if arguments[:2] == ["-m", "pip"]:
      check_command(arguments[1:])
  elif tool == cli.PROGRAM:
    assert {*arguments[:1]} <= {*cli.COMMANDS}, f"{tool} has no command {arguments[0]}"
    check_arguments(" ".join([tool, *arguments[:1]]), arguments[1:])
  elif tool in LAUNCHERS:
    for started in started_by(tool, arguments):
      check_command(started)
  elif tool == "pip":
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for word in arguments:
      extras = re.fullmatch(r"(?:\.|perceiver[_-]stream)\[([\w,]+)\].*", word)
      asked = set(extras.group(1).split(",")) if extras else set()
      assert asked <= set(project["optional-dependencies"]), f"no such extra in {word}"
  else:
    assert tool in TOOLS, (
      f"'{tool}' is unknown to the test of the docs; check it or add it to TOOLS"
    )


@pytest.mark.parametrize("command", [pytest.param(c, id=name) for name, c in SHELL_COMMANDS])
def test_shell_commands_name_what_exists(command: list[str]) -> None:
  check_command(command)


@pytest.mark.parametrize(
  ("line", "message"),
  [
    ("make no_such_target", "Makefile has"),
    ("python scripts/no_such.py", "does not exist"),
    ("perceiver-stream no_such", "has no command no_such"),
    ("perceiver-stream track MY.mp4 --no_such", "track --help does not mention --no_such"),
    ("perceiver-stream train --config=online:tiny --config.no_such=1", "no 'no_such'"),
    ("python scripts/get_media.py --no_such", "does not mention"),
    ("pip install -e '.[no_such]'", "no such extra"),
    ("frobnicate now", "unknown to the test"),
    ("X=1 python scripts/get_media.py --lis", "does not mention"),
    ("srun --x=1 python scripts/no_such.py", "does not exist"),
    ("gcloud ssh --command='cd x && python scripts/no_such.py'", "does not exist"),
  ],
)
def test_the_check_of_commands_can_fail(line: str, message: str) -> None:
  with pytest.raises(AssertionError, match=message):
    check_command(shlex.split(line))


def test_the_check_of_commands_lets_good_ones_pass() -> None:
  for line in (
    "make test WORKERS=4",
    "python scripts/get_media.py --output x --list",
    "perceiver-stream",
    "perceiver-stream train --config=configs/online.py:tiny --config.stream.path=x",
    "pip install .",
  ):
    check_command(shlex.split(line))


def test_shell_blocks_are_split_into_commands() -> None:
  code = "cd x && make demo  # takes minutes\npython a.py \\\n  --b=1\n"
  block = Block(ROOT / "README.md", 1, "bash", "", code)
  assert commands_of(block) == [["cd", "x"], ["make", "demo"], ["python", "a.py", "--b=1"]]
  console = block._replace(language="console", code="$ make demo\nReport: somewhere\n")
  assert commands_of(console) == [["make", "demo"]]


# --- links


def anchors_of(page: pathlib.Path) -> set[str]:
  """Returns the anchors of a page's headings, in the manner of GitHub."""
  text = FENCE.sub("", page.read_text())
  titles = re.findall(r"^#+ +(.*?) *#*$", text, re.MULTILINE)
  return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_inside_the_repository_resolve(page: pathlib.Path) -> None:
  broken = []
  for match in LINK.finditer(FENCE.sub("", page.read_text())):
    link = next(group for group in match.groups() if group)
    if re.match(r"[a-z]+:", link):
      continue  # a web address: not for a test to open
    file, _, anchor = link.partition("#")
    target = (page.parent / file).resolve() if file else page
    if not target.exists() or not target.is_relative_to(ROOT):
      broken.append(f"{link}: no such file")
    elif anchor and target.suffix == ".md" and anchor not in anchors_of(target):
      broken.append(f"{link}: no such heading; there are {sorted(anchors_of(target))}")
  assert not broken, "\n".join(broken)


# --- names


def names_in(text: str) -> list[str]:
  """Returns the dotted names of a page's text that start with a package of ours."""
  packages = "|".join(sorted(p.parent.name for p in ROOT.glob("perceiver_stream/*/__init__.py")))
  found = re.findall(rf"`((?:{packages})(?:\.\w+)+)`", FENCE.sub("", text))
  return list(dict.fromkeys(found))


def resolves(name: str) -> bool:
  """Returns whether a module of the package, or something in one, has this name."""
  try:
    pkgutil.resolve_name(f"perceiver_stream.{name}")
  except (ImportError, AttributeError):
    return False
  return True


def test_names_on_the_page_of_equations_exist() -> None:
  names = names_in((ROOT / "docs" / "equations.md").read_text())
  assert len(names) > 30 and not [name for name in names if not resolves(name)]


def test_the_check_of_names_can_fail() -> None:
  text = "`core.gated.Gated`, `core.gated.Nothing`, `nowhere.at.all`, `models`"
  assert [(n, resolves(n)) for n in names_in(text)] == [
    ("core.gated.Gated", True),
    ("core.gated.Nothing", False),
  ]


def test_the_files_that_the_page_of_systems_names_exist():
  named = re.findall(
    r"`((?:perceiver_stream|tests)/[^`]+)`", (ROOT / "docs/mission.md").read_text()
  )
  assert len(named) > 40
  missing = [name for name in named if not (ROOT / name).exists()]
  assert not missing, missing
