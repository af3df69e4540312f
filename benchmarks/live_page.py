"""Delay from the capture to the picture on the live page, CPU share of the server, screenshots.

  python benchmarks/live_page.py --seconds=60
  python benchmarks/live_page.py --seconds=20 --images=docs/images      # writes live_wide.webp, live_narrow.webp

A headless Chromium with a video file as its camera, and `perceiver-stream live` on the same machine.
"""

import argparse
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time

import chromium
from common import cpu_s

SIDE = 64  # of the default model's images


def measure(page: chromium.Page, server: int, seconds: float) -> str:
  """Returns a row of the table: delays, rate, CPU share, dropped images, updates."""
  page.evaluate("(live.delays = [])")
  before, started = page.evaluate("live.header"), time.monotonic()
  busy, delays = cpu_s(server), []
  while time.monotonic() - started < seconds:
    time.sleep(2)
    delays += page.evaluate("live.delays.splice(0)")
  passed = time.monotonic() - started
  busy, after = (cpu_s(server) - busy) / passed, page.evaluate("live.header")
  ms = [1000 * x for x in sorted(delays)]
  numbers = (
    f"{statistics.median(ms):.0f}",
    f"{ms[int(0.95 * len(ms))]:.0f}",
    f"{(after['tick'] - before['tick']) / passed:.1f}",
    f"{100 * busy:.0f} %",
    f"{after['dropped'] - before['dropped']}",
    f"{after['updates'] - before['updates']} of "
    f"{after['updates'] + after['missed'] - before['updates'] - before['missed']}",
  )
  return " | ".join(numbers)


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--seconds", type=float, default=60.0)
  parser.add_argument("--images", type=pathlib.Path, help="folder for screenshots")
  parser.add_argument(
    "--warm_s", type=float, default=180.0, help="longest wait for the first update"
  )
  args, extra = parser.parse_known_args()
  program = chromium.find()
  if program is None:
    sys.exit(
      f"No Chromium; install one of {', '.join(chromium.NAMES)}, or set CHROMIUM to its path."
    )
  command = [sys.executable, "-m", "perceiver_stream", "live", "--port=0", *extra]
  with tempfile.TemporaryDirectory() as folder:
    camera = pathlib.Path(folder, "camera.y4m")
    chromium.write_camera(camera)
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
      assert server.stdout is not None
      url = next(found[1] for line in server.stdout if (found := re.match(r"Open (\S+)", line)))
      with chromium.opened(url, program, camera) as page:
        page.wait_for("globalThis.live && live.facts", args.warm_s)
        page.click("#camera")
        page.wait_for("live.ticks > 20", args.warm_s)
        page.evaluate(chromium.CLICK_CENTRE)
        if page.evaluate("live.facts.can_learn"):
          page.wait_for("live.header.updates > 2", args.warm_s)
        print(f"load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
        print("median ms | p95 ms | frames/s | CPU of one core | dropped | windows learned")
        print(measure(page, server.pid, args.seconds), flush=True)
        for name, width, dark in (("live_wide", 1200, False), ("live_narrow", 360, True)):
          if args.images:
            page.resize(width, 800, dark=dark)
            (args.images / f"{name}.webp").write_bytes(page.screenshot())
        if page.errors:
          sys.exit(f"Errors on the page: {page.errors}")
    finally:
      server.terminate()
      server.wait()


if __name__ == "__main__":
  main()
