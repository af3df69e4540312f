"""One clip of the synthetic benchmark, through baselines, trackers and metrics to the end."""

import numpy as np
import pytest
from metric_golden import Case, cases

from perceiver_stream.evaluation import baselines, trackers
from perceiver_stream.evaluation.metrics import flow, image, tapvid

SIZE = 256  # at which points are scored
# Static is exact; OpenCV's builds differ; a template has settings that its description leaves open.
TOLERANCE = {"static": 1e-6, "template": 0.03, "dis_template": 0.03}
CLIPS = cases("synth_sample")


@pytest.mark.parametrize(("path", "prefix"), CLIPS)
@pytest.mark.parametrize("mode", ["first", "strided"])
@pytest.mark.parametrize("name", sorted({*trackers.TRACKERS} - {"lk_template"}))  # it is ours
def test_trackers(path, prefix, name, mode):
  case = Case(path, prefix)
  video, queries = case["video"], case[f"query_points_{mode}"]
  track = queried_tracks(case, queries, mode)
  tracks, hidden = trackers.track(video, queries, trackers.TRACKERS[name])
  scale = SIZE / np.asarray(video.shape[2:0:-1])
  scores = tapvid.scores(
    (queries * [1, *scale[::-1]])[None],
    (case["tracks"][track] * scale)[None],
    ~case["visible"][track][None],
    (tracks * scale)[None],
    hidden[None],
    mode,
  )
  values = [scores[key][0] for key in case["expected_keys"]]
  case.equal(f"expected_{name}_{mode}", values, atol=TOLERANCE.get(name, 0.02))


def queried_tracks(case, queries, mode):
  """Returns which track each query is of, and checks that strided queries are sampled alike."""
  tracks, hidden = case["tracks"], ~case["visible"]
  if mode == "first":
    frame = np.round(queries[:, 0]).astype(int)
    at = tracks[:, frame].transpose(1, 0, 2)  # [Q, N, 2]
    return np.linalg.norm(at - queries[:, None, :0:-1], axis=-1).argmin(axis=1)
  expected, track = tapvid.queries_strided(tracks, hidden, 5)
  np.testing.assert_allclose(queries, expected, atol=1e-3)
  return track


def exact_flow(case):
  """Returns the flow of the layers' affine motion, `[T - 1, H, W, 2]`."""
  seg, affine = case["seg"], case["layer_affine"]
  _, height, width = seg.shape
  x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
  point = np.stack([x, y, np.ones_like(x)], axis=-1)
  motion = affine[:, 1:] @ np.linalg.inv(affine[:, :-1])  # [L, T - 1, 3, 3]
  moved = [
    np.einsum("hwij,hwj->hwi", motion[layers, t], point) for t, layers in enumerate(seg[:-1])
  ]
  return np.stack(moved)[..., :2] - point[..., :2]


@pytest.mark.parametrize(("path", "prefix"), CLIPS)
def test_the_error_of_no_flow(path, prefix):
  case = Case(path, prefix)
  gt = exact_flow(case)
  still = np.zeros_like(gt)
  bits = np.unpackbits(case["flow_noc"])[: gt[..., 0].size]
  seen = bits.reshape(gt.shape[:3]).astype(bool)
  everywhere = np.ones(seen.shape, bool)
  epe = [flow.per_image_scores(gt, still, valid)[:, 0].mean() for valid in (everywhere, seen)]
  outliers = flow.scores(gt, still)["fl_all_percent"]
  case.equal("expected_zero_flow_epe_noc_fl", [*epe, outliers], atol=1e-4)


@pytest.mark.parametrize(("path", "prefix"), CLIPS)
def test_copying_the_last_frame(path, prefix):
  case = Case(path, prefix)
  video = case["video"]
  case.equal("expected_copy_last_psnr", image.psnr(video[:-1], video[1:], 255), atol=1e-4)
  scored = baselines.FrameBaselines((1,), *video.shape[1:3])
  first, *others = (scored.score(frame, is_first=t == 0) for t, frame in enumerate(video))
  assert not first
  error = np.asarray([errors[1]["copy"] for errors in others])
  case.equal("expected_copy_last_psnr", -10 * np.log10(error), atol=1e-3)
