"""Headless Chromium by its DevTools protocol, with a video file as its camera.

For `live_page.py` and the browser test: no driver program, only the package `websockets`.
"""

import base64
import contextlib
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import numpy as np

from perceiver_stream.utils.opencv import opencv

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
WIDTH, HEIGHT = 240, 240  # of the camera's video
# Centre of the orange square in the newest input, in pixels, and the tracked point.
CENTRE = """(() => {
  const {shape: [height, width], data} = live.arrays.input;
  let [x, y, n] = [0, 0, 0];
  for (let i = 0; i < height * width; i++) {
    if (data[3 * i] - data[3 * i + 2] > 60) { x += i % width + .5; y += Math.floor(i / width) + .5; n += 1; }
  }
  const point = live.header.points[0];
  return {x: x / n, y: y / n, tick: live.header.tick,
          point: point ? [width * point.x, height * point.y] : null};
})()"""

# A click on that centre, in one task of the page, so that no newer image comes in between.
CLICK_CENTRE = f"""(() => {{
  const {{x, y}} = {CENTRE}, overlay = document.querySelector("#overlay");
  const box = overlay.getBoundingClientRect(), [height, width] = live.arrays.input.shape;
  const clientX = box.left + x / width * box.width, clientY = box.top + y / height * box.height;
  overlay.dispatchEvent(new MouseEvent("click", {{bubbles: true, clientX, clientY}}));
  return true;
}})()"""


def find() -> str | None:
  """Returns the path of a Chromium, or None."""
  named = os.environ.get("CHROMIUM")
  return named or next(filter(None, map(shutil.which, NAMES)), None)


def write_camera(path: pathlib.Path, frames: int = 300, px_per_frame: float = 1.2) -> None:
  """Writes a video (.y4m, 25 images/s) of an orange textured square that circles over grey texture."""
  rng, cv2 = np.random.default_rng(0), opencv()
  enlarge = lambda x, n: cv2.resize(x.astype(np.float32), (n, n), interpolation=cv2.INTER_CUBIC)  # noqa: E731
  ground = enlarge(rng.integers(70, 120, (30, 30)), WIDTH)
  thing = enlarge(rng.integers(150, 240, (6, 6)), 66)
  radius = px_per_frame * frames / (2 * np.pi)
  with path.open("wb") as file:
    file.write(f"YUV4MPEG2 W{WIDTH} H{HEIGHT} F25:1 Ip A1:1 C420jpeg\n".encode())
    for turn in 2 * np.pi * np.arange(frames) / frames:
      x, y = (round(87 + radius * f(turn)) for f in (np.cos, np.sin))
      x, y = x - x % 2, y - y % 2  # colours have half the size
      light = ground.copy()
      light[y : y + 66, x : x + 66] = thing
      colours = np.full((2, HEIGHT // 2, WIDTH // 2), 128.0)
      colours[:, y // 2 : y // 2 + 33, x // 2 : x // 2 + 33] = [[[84]], [[172]]]
      planes = [np.clip(plane, 0, 255).astype(np.uint8).tobytes() for plane in (light, *colours)]
      file.write(b"".join((b"FRAME\n", *planes)))


class Page:
  """A tab of a browser.

  Attributes:
    errors: Exceptions and messages of errors on the page.
  """

  def __init__(self, socket: Any):
    self.errors: list[str] = []
    self._socket, self._number = socket, 0
    for domain in ("Page", "Runtime", "Log"):
      self.call(f"{domain}.enable")

  def call(self, method: str, **params: Any) -> dict[str, Any]:
    """Returns the result of a method of the DevTools protocol; raises RuntimeError."""
    self._number += 1
    self._socket.send(json.dumps({"id": self._number, "method": method, "params": params}))
    while True:
      message = json.loads(self._socket.recv(timeout=120))
      if message.get("method") == "Runtime.exceptionThrown":
        self.errors.append(json.dumps(message["params"])[:500])
      if (
        message.get("method") == "Log.entryAdded" and message["params"]["entry"]["level"] == "error"
      ):
        self.errors.append(message["params"]["entry"]["text"])
      if message.get("id") == self._number:
        if "error" in message:
          raise RuntimeError(f"{method}: {message['error']}")
        return message["result"]

  def evaluate(self, script: str) -> Any:
    """Returns the value of an expression of JavaScript; raises RuntimeError."""
    found = self.call("Runtime.evaluate", expression=f"JSON.stringify({script})")
    if "exceptionDetails" in found:
      raise RuntimeError(f"{script}: {found['exceptionDetails']['exception'].get('description')}")
    value = found["result"].get("value")
    return None if value is None else json.loads(value)

  def wait_for(self, script: str, timeout_s: float = 120.0) -> None:
    """Waits until an expression is true; raises TimeoutError."""
    deadline = time.monotonic() + timeout_s
    while not self.evaluate(f"Boolean({script})"):
      if time.monotonic() > deadline:
        note = self.evaluate("document.body.innerText.slice(0, 400)")
        raise TimeoutError(f"{script} is not true after {timeout_s:g} s; the page: {note}")
      time.sleep(0.1)

  def click(self, selector: str, x: float = 0.5, y: float = 0.5) -> None:
    """Clicks into an element, at a position in [0, 1] of its box."""
    self.evaluate(f"document.querySelector('{selector}').scrollIntoView({{block: 'center'}}) || 1")
    script = f"(b => [b.left, b.top, b.width, b.height])(document.querySelector('{selector}').getBoundingClientRect())"
    left, top, width, height = self.evaluate(script)
    where = {"x": left + x * width, "y": top + y * height, "button": "left", "clickCount": 1}
    for kind in ("mousePressed", "mouseReleased"):
      self.call("Input.dispatchMouseEvent", type=kind, **where)

  def resize(self, width: int, height: int, *, dark: bool = False) -> None:
    """Sets the size of the window, and the colour scheme."""
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    self.call("Emulation.setDeviceMetricsOverride", **size)
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    self.call("Emulation.setEmulatedMedia", features=[scheme])
    time.sleep(1.5)

  def screenshot(self) -> bytes:
    """Returns the whole page as WebP."""
    options = {"format": "webp", "quality": 70, "captureBeyondViewport": True}
    return base64.b64decode(self.call("Page.captureScreenshot", **options)["data"])


@contextlib.contextmanager
def opened(url: str, program: str, camera: pathlib.Path) -> Iterator[Page]:
  """Opens a page in a headless browser whose camera shows a video, without asking."""
  from websockets.sync.client import connect

  arguments = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--mute-audio"]
  arguments += ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
  arguments += [f"--use-file-for-fake-video-capture={camera}", "--remote-debugging-port=0"]
  with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
    command = [program, *arguments, f"--user-data-dir={profile}", "about:blank"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
      address = f"127.0.0.1:{_port(pathlib.Path(profile, 'DevToolsActivePort'))}"
      with urllib.request.urlopen(f"http://{address}/json") as reply:
        tab = next(tab for tab in json.load(reply) if tab["type"] == "page")
      with connect(tab["webSocketDebuggerUrl"], max_size=2**27) as socket:
        page = Page(socket)
        page.resize(1200, 900)
        page.call("Page.navigate", url=url)
        yield page
    finally:
      process.terminate()
      process.wait()


def _port(file: pathlib.Path, timeout_s: float = 60.0) -> int:
  """Returns the port that a browser wrote when it was ready; raises TimeoutError."""
  deadline = time.monotonic() + timeout_s
  while time.monotonic() < deadline:
    if file.exists() and (lines := file.read_text().splitlines()):
      return int(lines[0])
    time.sleep(0.1)
  raise TimeoutError(f"The browser was not ready after {timeout_s:g} s.")
