"""One file per family of metrics; this list is the only other place that names them.

All are numpy, in float64. To add one, write `metrics/<name>.py` with its functions and a `METRIC`,
and name it in `METRICS`; the conformance tests pick it up from here.
"""

from perceiver_stream.evaluation.metrics import (
  audio,
  boxes,
  davis,
  depth,
  drift,
  flow,
  image,
  label_propagation,
  miou,
  pck,
  rand_index,
  redetection,
  streaming,
  tapvid,
  trajectory,
)
from perceiver_stream.evaluation.metrics.base import Metric as Metric

METRICS: tuple[Metric, ...] = (
  tapvid.METRIC,
  redetection.METRIC,
  davis.METRIC,
  label_propagation.METRIC,
  depth.METRIC,
  flow.METRIC,
  image.METRIC,
  boxes.METRIC,
  streaming.METRIC,
  pck.METRIC,
  miou.METRIC,
  rand_index.METRIC,
  audio.METRIC,
  trajectory.METRIC,
  drift.METRIC,
)
