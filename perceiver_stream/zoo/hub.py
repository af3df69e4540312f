"""Models on the Hugging Face Hub: addresses `hf://OWNER/NAME`, and the files of a repository.

A repository has the layout of `huggingface_hub.ModelHubMixin`: `model.safetensors`, `config.json` and a
card, `README.md`. The package `huggingface_hub` (extra `hub`) finds and downloads files; its environment
variables (`HF_HUB_CACHE`, `HF_HUB_OFFLINE`, `HF_TOKEN`, `HF_ENDPOINT`) hold.
"""

import json
import pathlib
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from perceiver_stream.files import limits
from perceiver_stream.utils import atomic
from perceiver_stream.utils.optional import require
from perceiver_stream.utils.paths import user_path

SCHEME = "hf://"
WEIGHTS, CONFIG, CARD = "model.safetensors", "config.json", "README.md"
_PART = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_ADDRESS = re.compile(rf"hf://({_PART}/{_PART})(?:@([A-Za-z0-9._-]+))?(?:/((?:{_PART}/)*{_PART}))?")


class Address(NamedTuple):
  """A file of a repository.

  Attributes:
    repository: `OWNER/NAME`.
    revision: A branch, tag or commit; None is the main branch.
    file: Path in the repository.
  """

  repository: str
  revision: str | None
  file: str


def parse(address: str) -> Address:
  """Returns the parts of `hf://OWNER/NAME[@REVISION][/FILE]`; FILE is `model.safetensors` if left out.

  Raises:
    ValueError: It is no such address.
  """
  found = _ADDRESS.fullmatch(address)
  if not found or ".." in address:
    raise ValueError(
      f"{address!r} is no address of a model; use hf://OWNER/NAME, hf://OWNER/NAME@REVISION or "
      f"hf://OWNER/NAME/FILE."
    )
  return Address(found[1], found[2], found[3] or WEIGHTS)


def local_path(path: str | pathlib.Path) -> pathlib.Path:
  """Returns a path as it is, with `~` expanded, and for an address `hf://...` its file; see `fetch`."""
  return fetch(path) if isinstance(path, str) and path.startswith(SCHEME) else user_path(path)


def fetch(address: str) -> pathlib.Path:
  """Returns the local copy of a file of the Hub; its `config.json`, if it has one, is beside it.

  A copy in the cache is used as it is, without the network; name a `@REVISION` for another one.
  Otherwise both files are downloaded, if they are not larger than `limits` allows.

  Args:
    address: See `parse`.

  Raises:
    ImportError: `huggingface_hub` is not installed.
    FileNotFoundError: It is not in the cache, and cannot be downloaded; the reason is stated.
    ValueError: It is no address, or a file is too large or of unknown size.
  """
  where = parse(address)
  hub: Any = require("huggingface_hub", "hub")
  errors: Any = require("huggingface_hub.errors", "hub")
  config = where._replace(file=str(pathlib.PurePosixPath(where.file).with_name(CONFIG)))
  try:
    try:
      return _download(hub, where, local_files_only=True)
    except errors.LocalEntryNotFoundError:
      _download_optional(hub, errors, config)  # first: a copy of the weights is complete
      _check_size(hub, where, limits.MAX_FILE_BYTES)
      return _download(hub, where)
  except (errors.HfHubHTTPError, errors.OfflineModeIsEnabled, OSError) as error:
    reason = " ".join(str(error).split())
    raise FileNotFoundError(
      f"{address}: {where.file} of {where.repository} is neither in the cache nor can it be downloaded "
      f"({type(error).__name__}: {reason[:300]}); check the name and the network, or log in by HF_TOKEN."
    ) from error


def check_repository(repository: str) -> Address:
  """Returns the address of a repository to upload to, `OWNER/NAME` or `OWNER/NAME@REVISION`.

  Raises:
    ValueError: It is none.
    ImportError: `huggingface_hub` is not installed.
  """
  where = parse(SCHEME + repository.removeprefix(SCHEME))
  if where.file != WEIGHTS:
    raise ValueError(f"{repository!r} names a file; a model is uploaded to OWNER/NAME.")
  require("huggingface_hub", "hub")
  return where


def upload(folder: pathlib.Path, repository: str) -> None:
  """Uploads the files of a model to a repository; if there is none, a public one is created.

  Args:
    folder: With the files of `zoo.save`.
    repository: See `check_repository`.

  Raises:
    ImportError: `huggingface_hub` is not installed.
    OSError: It cannot be reached, or needs a token that may write; HF_TOKEN gives one.
  """
  where = check_repository(repository)
  api = require("huggingface_hub", "hub").HfApi(library_name="perceiver_stream")
  try:
    api.create_repo(where.repository, exist_ok=True)
    api.upload_folder(
      repo_id=where.repository,
      folder_path=folder,
      allow_patterns=[WEIGHTS, CONFIG, CARD],
      revision=where.revision,
      commit_message="Model of perceiver_stream",
    )
  except Exception as error:  # of the HTTP library, which differs between versions
    reason = " ".join(str(error).split())
    raise OSError(
      f"{folder} is written, and was not uploaded to {where.repository} ({type(error).__name__}: "
      f"{reason[:300]}); check the name, the network and HF_TOKEN."
    ) from error


def is_model_folder(folder: pathlib.Path) -> bool:
  """Returns False if a folder's `config.json` is that of something else, such as a run."""
  path = folder / CONFIG
  if not path.exists():
    return True
  try:
    content = json.loads(limits.read_bytes(path, limits.MAX_TEXT_BYTES))
  except ValueError:
    return False
  return isinstance(content, dict) and content.get("library_name") == "perceiver_stream"


def write_config_and_card(
  folder: pathlib.Path, config: str, card: Mapping[str, str], repository: str = ""
) -> None:
  """Writes `config.json` and a card; a card that is there is kept, since people edit it.

  Args:
    folder: To write to.
    config: Of the model, JSON.
    card: Fields of a `models.family.Card`.
    repository: That the card names; "" names the folder.
  """
  content = {"library_name": "perceiver_stream", "config": json.loads(config)}
  atomic.write_text(folder / CONFIG, json.dumps(content, indent=2) + "\n")
  if not (folder / CARD).exists():
    source = f"{SCHEME}{repository.removeprefix(SCHEME)}" if repository else folder.name
    atomic.write_text(folder / CARD, _card_text(card, source))


def _download(hub: Any, where: Address, **options: Any) -> pathlib.Path:
  """Returns the path of a file in the cache."""
  return user_path(
    hub.hf_hub_download(where.repository, where.file, revision=where.revision, **options)
  )


def _check_size(hub: Any, where: Address, most: int) -> None:
  """Raises ValueError for a file of more than `most` bytes, or of unknown size."""
  size = hub.hf_hub_download(
    where.repository, where.file, revision=where.revision, dry_run=True
  ).file_size
  if size is None or size > most:
    stated = "a file of unknown size" if size is None else f"{size} bytes"
    raise ValueError(
      f"{SCHEME}{where.repository}/{where.file}: {stated} is refused; {most} is the most."
    )


def _download_optional(hub: Any, errors: Any, where: Address) -> None:
  """Downloads a config, if there is one; a network that fails is an error."""
  try:
    _check_size(hub, where, limits.MAX_TEXT_BYTES)
    _download(hub, where)
  except errors.LocalEntryNotFoundError:  # a kind of the next, for a network that fails
    raise
  except errors.EntryNotFoundError:
    return


def _card_text(card: Mapping[str, str], source: str) -> str:
  """Returns a card in Markdown, with the header by which the Hub finds the library."""
  header = "---\nlibrary_name: perceiver_stream\ntags:\n- video\n- streaming\n---\n\n"
  rows = "".join(f"- **{name}**: {text}\n" for name, text in card.items() if text)
  use = (
    f'```python\nimport perceiver_stream\n\nmodel, params = perceiver_stream.load("{source}")\n```'
  )
  return f"{header}# A model of perceiver_stream\n\n{rows}\n{use}\n"
