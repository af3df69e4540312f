"""Rows of the tables of `benchmarks/odometry.py`: seeds and thresholds."""

import importlib
import pathlib

import pytest

FOLDER = pathlib.Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def odometry(monkeypatch):
  monkeypatch.syspath_prepend(FOLDER)
  return importlib.import_module("odometry")


def test_seeds_become_one_row_with_mean_and_range(odometry):
  rows = [["identity", 3.0], ["by_warping_0", 1.0], ["by_warping_1", 2.0], ["single_7", 5.0]]
  merged = odometry.over_seeds(odometry.common.Table("", ["method", "ATE"], rows))
  assert merged.rows == [["identity", 3.0], ["by warping", "1.5 (1–2)"], ["single", 5.0]]
  assert odometry.with_range((1.0, None)) is None


def test_the_best_threshold_of_each_kind_is_shown(odometry):
  rows = [
    ["identity", 9.0],
    ["essential, RANSAC, 0.1 px", 3.0],
    ["essential, RANSAC, 0.5 px", 2.0],
    ["essential, USAC_MAGSAC, 0.1 px", None],
    ["essential, USAC_MAGSAC, 1.0 px", 4.0],
  ]
  shown = odometry.with_best_thresholds(odometry.common.Table("", ["method", "ATE"], rows))
  assert shown.rows == [rows[0], rows[2], rows[4]]
