"""The config file behind `--resume=RUN`: the config of a run, whose fields can then be set."""

from typing import Any

from perceiver_stream.training.config import read_config
from perceiver_stream.utils.paths import user_path


def get_config(run_dir: str) -> Any:
  """Returns the config of a run; the folder may have moved since.

  Raises:
    FileNotFoundError: There is no run.
    ValueError: Its config cannot be read.
  """
  path = user_path(run_dir) / "config.json"
  if not path.is_file():
    raise FileNotFoundError(f"--resume={run_dir}: there is no run; {path} does not exist.")
  config = read_config(path.parent)
  config.run_dir = run_dir
  return config
