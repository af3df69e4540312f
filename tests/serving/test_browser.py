"""The page in a real browser: a headless Chromium with a video file as its camera."""

import dataclasses
import pathlib
import sys
import threading
import time

import extras
import live_sessions
import pytest

from perceiver_stream import streams
from perceiver_stream.serving import building
from perceiver_stream.serving.sources import BrowserSource

extras.need("fastapi", "uvicorn", "websockets")

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "benchmarks"))
import chromium  # noqa: E402

# Two clicks before the camera is open, of which the first image cannot be encoded.
START = """(() => {
  const [devices, {toBlob}] = [navigator.mediaDevices, HTMLCanvasElement.prototype];
  const open = devices.getUserMedia.bind(devices);
  globalThis.opened = 0;
  devices.getUserMedia = (what) => { opened += 1; return open(what); };
  HTMLCanvasElement.prototype.toBlob = function (done) {
    HTMLCanvasElement.prototype.toBlob = toBlob;
    done(null);
  };
  for (let i = 0; i < 2; i++) document.querySelector("#camera").click();
})()"""


@pytest.fixture
def address():
  """Serves a watching nano model of 64 x 64 pixels by uvicorn, and returns its address."""
  import uvicorn

  stream = streams.balls.Config(height=64, width=64)
  config = dataclasses.replace(live_sessions.experiment(), stream=stream)
  session = building.make_session(config, learns=False)
  source = BrowserSource(session.input_specs, rate_hz=12.5)
  app, _ = live_sessions.application(session, source)
  options = {"log_level": "warning", "ws_per_message_deflate": False, "port": 0}
  server = uvicorn.Server(uvicorn.Config(app.application(), timeout_graceful_shutdown=3, **options))
  thread = threading.Thread(target=server.run)
  thread.start()
  while not server.started:
    time.sleep(0.05)
  port = server.servers[0].sockets[0].getsockname()[1]
  yield f"http://{live_sessions.HOST}:{port}/?token={live_sessions.TOKEN}"
  server.should_exit = True
  thread.join()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the server's protocol
def test_frames_flow_and_a_clicked_point_stays_on_a_moving_thing(address, tmp_path) -> None:
  program = chromium.find()
  if program is None:
    pytest.skip("there is no Chromium: apt-get install chromium, or set CHROMIUM to its path")
  chromium.write_camera(tmp_path / "camera.y4m")
  with chromium.opened(address, program, tmp_path / "camera.y4m") as page:
    page.wait_for("globalThis.live && live.facts", 300)
    page.evaluate(START)
    page.wait_for("live.ticks > 5", 300)
    assert page.evaluate("opened") == 1
    page.evaluate(chromium.CLICK_CENTRE)
    page.wait_for("live.header.points.length")
    start = page.evaluate("live.header.tick")
    for ticks in (1, 50, 100):
      page.wait_for(f"live.header.tick >= {start + ticks}")
      found = page.evaluate(chromium.CENTRE)
      assert max(abs(found["point"][0] - found["x"]), abs(found["point"][1] - found["y"])) < 3
    page.click("#points button")
    page.wait_for("!live.header.points.length")
    page.resize(360, 780, dark=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert not page.errors
