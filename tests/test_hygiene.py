"""Rules of the repository: no hosts, no paths of machines, no big or long files, plain docstrings."""

import ast
import pathlib
import re
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
MAX_BYTES = 2_000_000
# Names of files allowed to be bigger, each for a stated reason: bundled weights, 10 MB at most.
BIG_FILES = {
  f"perceiver_stream/weights/{name}.safetensors"
  for name in (
    "stream_perceiver.tiny_world",
    "stream_perceiver.tiny_motion",
    "stream_perceiver.tiny_positions",
    "moog.tiny_world",
  )
}
MAX_LINES = 400

# Written in pieces, so that this file does not hold what it forbids.
REGISTRIES = ("py" + "pi.org", "pythonhosted" + ".org", "registry." + "npmjs", "deb." + "debian")
HOST = re.compile("|".join(re.escape(host) for host in REGISTRIES), re.IGNORECASE)
HOME = re.compile(r"(?<![\w./~$}\-])/(?:home|Users|root|work|mnt|data)/[\w.]+")
LOCAL = re.compile(
  r"https?://(?:localhost|0\.0\.0\.0|(?:\d{1,3}\.){3}\d{1,3}|[\w.-]+\.(?:local|internal|corp))\b"
)


def tracked() -> list[pathlib.Path]:
  """Returns the files git knows; in a source archive, where there is no git, nothing."""
  command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
  done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
  paths = [ROOT / line for line in done.stdout.splitlines()] if done.returncode == 0 else []
  return [path for path in paths if path.is_file()]


FILES = tracked()


def text_of(path: pathlib.Path) -> str:
  data = path.read_bytes()
  return "" if b"\0" in data[:4096] else data.decode(errors="replace")


@pytest.mark.parametrize(
  ("pattern", "why"),
  [
    (HOST, "names the host of a package registry: say the package's name"),
    (HOME, "has a path of somebody's machine: make it relative or an argument"),
    (LOCAL, "has an address that only answers on somebody's machine"),
  ],
  ids=["registry", "path", "address"],
)
def test_no_file_tells_whose_machine_it_came_from(pattern: re.Pattern[str], why: str) -> None:
  found = [
    f"{path.relative_to(ROOT)}:{number}: {match.group()} {why}"
    for path in FILES
    for number, line in enumerate(text_of(path).splitlines(), 1)
    if (match := pattern.search(line))
  ]
  assert not found, "\n".join(found)


@pytest.mark.parametrize(
  ("pattern", "line"),
  [
    (HOST, "pip install --index-url https://" + "py" + "pi.org/simple x"),
    (HOME, 'open("/' + 'home/ada/x.mp4")'),
    (HOME, "cd /" + "Users/ada"),
    (LOCAL, "http" + "://localhost:8000/weights"),
    (LOCAL, "http" + "://10.1.2.3/weights"),
  ],
)
def test_the_patterns_find_what_they_are_for(pattern: re.Pattern[str], line: str) -> None:
  assert pattern.search(line)


@pytest.mark.parametrize(
  "line", ["a/home/b", "https://example.org/home/page", "runs/demo", "/tmp/x"]
)
def test_the_patterns_leave_the_rest_alone(line: str) -> None:
  assert not any(pattern.search(line) for pattern in (HOST, HOME, LOCAL))


def test_no_big_file() -> None:
  big = {
    str(path.relative_to(ROOT)): path.stat().st_size
    for path in FILES
    if path.stat().st_size > MAX_BYTES
  }
  assert set(big) <= BIG_FILES, (
    f"{big}: fetch it at run time, or list it in BIG_FILES with a reason"
  )


def test_no_python_file_is_too_long() -> None:
  lines = {
    str(path.relative_to(ROOT)): len(text_of(path).splitlines())
    for path in FILES
    if path.suffix == ".py"
  }
  long = {name: count for name, count in lines.items() if count > MAX_LINES}
  assert not long, f"{long}: split it; the limit is {MAX_LINES} lines"


def test_there_is_at_least_half_a_line_of_test_per_line_of_source() -> None:
  def lines(folder: str) -> int:
    files = [path for path in FILES if path.suffix == ".py" and path.is_relative_to(ROOT / folder)]
    return sum(len(text_of(path).splitlines()) for path in files)

  source = lines("perceiver_stream") + lines("scripts")
  assert lines("tests") >= 0.5 * source, f"{lines('tests')} lines of test for {source} of source"


RELATIVE = re.compile(r"\s*(What|Which|Whether|Where|How|Who|When|Whose)\b")
RETURNS = re.compile(r"\b(Returns|Yields) (what|which|whether|where|how|who)\b", re.IGNORECASE)


def docstrings(tree: ast.AST) -> list[tuple[int, str]]:
  """Returns line and text of all docstrings, those of attributes and modules included."""
  bodies = [node.body for node in ast.walk(tree) if isinstance(getattr(node, "body", None), list)]  # type: ignore[attr-defined]
  values = [x.value for body in bodies for x in body if isinstance(x, ast.Expr)]
  return [
    (value.lineno, value.value)
    for value in values
    if isinstance(value, ast.Constant) and isinstance(value.value, str)
  ]


def clumsy(text: str) -> bool:
  return bool(RELATIVE.match(text) or RETURNS.search(text))


def test_docstrings_name_the_thing_and_are_no_relative_clauses() -> None:
  found = [
    f"{path.relative_to(ROOT)}:{line}: {text.splitlines()[0]}"
    for path in FILES
    if path.suffix == ".py" and path.is_relative_to(ROOT / "perceiver_stream")
    for line, text in docstrings(ast.parse(text_of(path)))
    if clumsy(text)
  ]
  assert not found, "say what the thing is or returns, as a noun:\n" + "\n".join(found)


@pytest.mark.parametrize(
  ("text", "is_clumsy"),
  [
    ("What a tick gives.", True),
    ("Whether it runs.", True),
    ("Takes a tick, and returns how well it fits.", True),
    ("Outputs of a tick.", False),
    ("Returns True if it runs.", False),
    ("Whatever the size, returns the mean.", False),
  ],
)
def test_clumsy_docstrings_are_found(text: str, is_clumsy: bool) -> None:
  assert clumsy(text) == is_clumsy
