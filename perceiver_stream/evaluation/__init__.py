"""Metrics, data sets, baselines, and trackers to compare with."""

from perceiver_stream.utils import moved

# As of version 0.1; gone in 0.2.
moved.install(
  {
    "evaluation.curves": "reporting.curves",
    "evaluation.filmstrips": "reporting.filmstrips",
    "evaluation.flow_files": "reporting.flow_files",
    "evaluation.page": "reporting.page",
    "evaluation.pictures": "reporting.images",
    "evaluation.pictures_tracks": "reporting.track_images",
    "evaluation.report": "reporting.report",
    "evaluation.rerun_files": "reporting.rerun_files",
    "evaluation.runs": "reporting.runs",
  }
)
