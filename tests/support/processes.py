"""Settings of processes that tests start."""

import os
import re


def xla_flags(devices: int) -> str:
  """Returns the flags of the suite, which compile fast, for so many devices."""
  return re.sub(r"(host_platform_device_count)=\d+", rf"\1={devices}", os.environ["XLA_FLAGS"])
