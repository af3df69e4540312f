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
  """Returns the local copy of a file of the Hub, and its `config.json` beside it where it has one.

  A copy in the cache is used without asking the network whether there is a newer one; name a
  `@REVISION` for another one. Otherwise the file is downloaded, if it is not larger than
  `limits.MAX_FILE_BYTES`.

  Args:
    address: See `parse`.

  Raises:
    ImportError: `huggingface_hub` is not installed.
    FileNotFoundError: It is not in the cache, and cannot be downloaded; the reason is stated.
    ValueError: It is no address, or the file is too large.
  """
  where = parse(address)
  hub: Any = require("huggingface_hub", "hub")
  errors = require("huggingface_hub.errors", "hub")
  try:
    return _fetched(hub, errors, where, address)
  except (errors.HfHubHTTPError, errors.OfflineModeIsEnabled, OSError) as error:
    reason = " ".join(str(error).split())
    raise FileNotFoundError(
      f"{address}: {where.file} of {where.repository} is neither in the cache nor can it be downloaded "
      f"({type(error).__name__}: {reason[:300]}); check the name and the network, or log in by HF_TOKEN."
    ) from error


def upload(folder: pathlib.Path, repository: str) -> None:
  """Uploads the files of a model to a repository, which is created if there is none.

  Args:
    folder: With the files of `write_folder`.
    repository: `OWNER/NAME`.

  Raises:
    ImportError: `huggingface_hub` is not installed.
    OSError: It cannot be reached, or needs a token that may write; HF_TOKEN gives one.
  """
  where = parse(SCHEME + repository.removeprefix(SCHEME))
  hub: Any = require("huggingface_hub", "hub")
  api = hub.HfApi(library_name="perceiver_stream")
  api.create_repo(where.repository, exist_ok=True)
  api.upload_folder(
    repo_id=where.repository,
    folder_path=folder,
    allow_patterns=[WEIGHTS, CONFIG, CARD],
    revision=where.revision,
    commit_message="Model of perceiver_stream",
  )


def write_config_and_card(folder: pathlib.Path, config: str, card: Mapping[str, str]) -> None:
  """Writes `config.json` and a card; a card that is there is kept, since people edit it.

  Args:
    folder: To write to.
    config: Of the model, JSON.
    card: Fields of a `models.family.Card`.
  """
  content = {"library_name": "perceiver_stream", "config": json.loads(config)}
  atomic.write_text(folder / CONFIG, json.dumps(content, indent=2) + "\n")
  if not (folder / CARD).exists():
    atomic.write_text(folder / CARD, _card_text(card))


def _fetched(hub: Any, errors: Any, where: Address, address: str) -> pathlib.Path:
  """Returns the file, from the cache or downloaded, and looks for the config in the same way."""
  try:
    path = _cached(hub, where, where.file)
  except errors.LocalEntryNotFoundError:
    url = hub.hf_hub_url(where.repository, where.file, revision=where.revision)
    size = hub.get_hf_file_metadata(url).size or 0
    if size > limits.MAX_FILE_BYTES:
      raise ValueError(
        f"{address}: {size} bytes is more than {limits.MAX_FILE_BYTES} may be."
      ) from None
    path = hub.hf_hub_download(where.repository, where.file, revision=where.revision)
    _download_config(hub, errors, where)
  return pathlib.Path(path)


def _cached(hub: Any, where: Address, file: str) -> str:
  return hub.hf_hub_download(where.repository, file, revision=where.revision, local_files_only=True)


def _download_config(hub: Any, errors: Any, where: Address) -> None:
  """Downloads the config of the same folder, if there is one."""
  config = str(pathlib.PurePosixPath(where.file).with_name(CONFIG))
  try:
    hub.hf_hub_download(where.repository, config, revision=where.revision)
  except errors.EntryNotFoundError:
    return


def _card_text(card: Mapping[str, str]) -> str:
  """Returns a card in Markdown, with the header by which the Hub finds the library."""
  header = "---\nlibrary_name: perceiver_stream\ntags:\n- video\n- streaming\n---\n\n"
  rows = "".join(f"- **{name}**: {text}\n" for name, text in card.items() if text)
  use = '```python\nimport perceiver_stream\n\nmodel, params = perceiver_stream.load("hf://OWNER/NAME")\n```'
  return f"{header}# A model of perceiver_stream\n\n{rows}\n{use}\n"
