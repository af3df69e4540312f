"""Metrics equal the numbers that the released code gave; see golden/README.md."""

import numpy as np
import pytest
from metric_golden import Case, cases

from perceiver_stream.evaluation.metrics import (
  boxes,
  davis,
  depth,
  flow,
  image,
  label_propagation,
  miou,
  pck,
  redetection,
  streaming,
  tapvid,
)


def tracks_of(case):
  names = ("query_points", "gt_tracks", "gt_occluded", "pred_tracks", "pred_occluded")
  return {name: case[name] for name in names if name in case}


def columns(table, keys):
  return np.stack([table[key] for key in keys], axis=-1)


@pytest.mark.parametrize(("path", "prefix"), cases("tapvid"))
def test_tapvid(path, prefix):
  case = Case(path, prefix)
  if "gt_tracks" in case:
    check_tapvid(case)
  elif "target_points" in case:
    check_sampling(case)
  else:
    for order in ("xy", "tyx"):
      sizes = case[f"{order}_in_size"], case[f"{order}_out_size"]
      case.equal(f"{order}_out", tapvid.convert_grid(case[f"{order}_in"], *sizes))
  case.done()


def check_tapvid(case):
  keys = case.about["metric_keys"]
  assert tuple(keys) == tapvid.KEYS
  for mode in ("first", "strided"):
    scores = tapvid.scores(**tracks_of(case), mode=mode)
    case.equal(f"out_{mode}", columns(scores, keys))
    by_track = tapvid.scores(**tracks_of(case), mode=mode, trackwise=True)
    case.equal(f"out_{mode}_trackwise", columns(by_track, keys))
    names = ("occlusion_accuracy", "average_pts_within_thresh", "average_jaccard")
    table = columns(scores, names)
    known = ~np.isnan(table)
    case.equal(f"kd_{mode}_per_video", np.where(known, table, 0), atol=1e-5)
    case.equal(f"kd_{mode}_mask", known)
    means = [tapvid.data_set_mean(scores[name]) for name in names]
    case.equal(f"kd_{mode}_dataset", np.nan_to_num(means), atol=1e-5)


def check_sampling(case):
  size = 256  # the target points are normalised
  points, occluded = case["target_points"] * size, case["target_occluded"]
  queries, track = tapvid.queries_first(points, occluded)
  case.equal("first_query_points", scaled(case, queries, "first_query_points", size)[None], 1e-4)
  case.equal("first_occluded", occluded[track][None])
  scale = np.round(np.nanmax(case["first_target_points"] / case["target_points"][track]), 3)
  case.equal("first_target_points", case["target_points"][track][None] * scale, atol=1e-4)
  queries, track = tapvid.queries_strided(points, occluded, int(case["stride"]))
  strided = scaled(case, queries, "strided_query_points", size)
  case.equal("strided_query_points", strided[None], atol=1e-4)
  case.equal("strided_occluded", occluded[track][None])
  case.equal("strided_trackgroup", track[None])


def scaled(case, queries, name, size):
  """Brings y and x back to the scale of the file, whose points may be normalised."""
  largest = np.abs(case[name][..., 1:]).max(initial=0)
  return queries / [1, size, size] if largest <= 2 else queries


@pytest.mark.parametrize(("path", "prefix"), cases("redetect"))
def test_redetection(path, prefix):
  case = Case(path, prefix)
  result = redetection.redetection(**tracks_of(case))
  case.equal("AJ_RD", result.aj_rd)
  case.equal("AJ_RD_dmin", result.by_duration)
  case.equal("AJ_RD_D_dmin", result.by_threshold)
  if "events_b_t_n" in case:
    case.equal("events_b_t_n", result.events)
    case.equal("durations", result.durations)
  else:
    assert not len(result.events)
  case.done()


@pytest.mark.parametrize(("path", "prefix"), cases("davis_jf"))
def test_davis(path, prefix):
  case = Case(path, prefix)
  gt, pred, void = case["gt"], case["pred"], case.get("void")
  j = davis.jaccard(gt, pred, void)
  f = davis.boundary_f(gt, pred, void, case["bound_th"].item())
  case.equal("J", j)
  case.equal("F", f)
  case.equal("J_MRD", davis.statistics(j))
  case.equal("F_MRD", davis.statistics(f))
  case.equal("JF_mean", (j.mean(axis=1).mean() + f.mean(axis=1).mean()) / 2)
  case.done()


@pytest.mark.parametrize(("path", "prefix"), cases("depth"))
def test_depth(path, prefix):
  case = Case(path, prefix)
  assert tuple(case.about["metric_keys"]) == depth.KEYS
  gt, pred, mask = case["gt"], case["pred"], case["mask"]
  for alignment in depth.ALIGNMENTS:
    table, applied = depth.scores(gt, pred, mask, tuple(case["range"]), alignment)
    case.equal(alignment, table, rtol=1e-6)
    case.equal(f"{alignment}_st", applied, rtol=1e-6)
  pooled = depth.pooled(gt, pred, mask)
  case.equal("kd_absrel_delta1", [pooled["abs_rel"], pooled["delta1"]], atol=1e-5)
  case.done()


@pytest.mark.parametrize(("path", "prefix"), cases("flow"))
def test_flow(path, prefix):
  case = Case(path, prefix)
  gt, pred, valid = case["gt"], case["pred"], case["valid"]
  scores = flow.scores(gt, pred, valid)
  case.equal("out", [scores[key] for key in case.about["metric_keys"]], atol=1e-4)
  case.equal("per_image_epe_fl", flow.per_image_scores(gt, pred, valid), atol=1e-4)
  case.done()


@pytest.mark.parametrize(("path", "prefix"), cases("image"))
def test_image(path, prefix):
  case = Case(path, prefix)
  pred, target = case["pred"], case["target"]
  case.equal("psnr_kd", image.psnr(pred, target), atol=1e-4)
  case.equal("psnr_skimage", image.psnr(pred, target, mse_floor=0.0), atol=1e-4)
  case.equal("ssim_kd", image.ssim(pred, target), atol=1e-4)
  case.equal("ssim_skimage_gauss", image.ssim(pred, target, clip_variance=False), atol=1e-4)
  plain = {"weights": np.ones(7), "use_sample_covariance": True, "clip_variance": False}
  case.equal("ssim_skimage_default7", image.ssim(pred, target, **plain), atol=1e-4)
  # Pictures in [-1, 1]: kauldron's PSNR has a range of 2, its SSIM maps them back.
  wide = [2 * np.asarray(x, np.float64) - 1 for x in (pred, target)]
  means = [image.psnr(*wide, value_range=2).mean(), image.ssim(pred, target).mean()]
  case.equal("kd_psnr_ssim_mean_vrange_pm1", means, atol=1e-4)
  case.done()


@pytest.mark.parametrize(("path", "prefix"), cases("labelprop"))
def test_label_propagation(path, prefix):
  case = Case(path, prefix)
  if "gt_masks" in case:
    check_masks(case)
  elif "features" in case:
    check_pose(case)
  elif "hist" in case:
    matrix = miou.confusion(case["gt"], case["pred"], len(case["hist"]))
    case.equal("hist", matrix)
    case.equal("per_class", miou.iou_per_class(matrix))
    case.equal("mean", miou.mean_iou(matrix))
  else:
    check_pck(case, path)
  case.done()


def check_masks(case):
  n_context, temperature, top_k, radius, restrict, norm = case["params"]
  settings = label_propagation.Settings(
    int(n_context), temperature, int(top_k), radius, bool(restrict), bool(norm)
  )
  features, masks = case["features"], case["gt_masks"]
  labels, ids = label_propagation.masks_to_labels(masks[0], features.shape[1:3])
  case.equal("label_ids", ids)
  case.equal("heatmap0", labels, atol=1e-5)
  handed = label_propagation.propagate(features, labels, settings)
  case.equal("heatmaps", handed, atol=1e-4)
  free = label_propagation.propagate(features, labels, settings._replace(use_radius=False))
  case.equal("heatmaps_unrestricted", free, atol=1e-4)
  if n_context + 1 >= top_k:  # else equal values count, and this one takes the first of them
    case.equal("kd_heatmaps", free, atol=1e-4)
  assert case["kd_heatmaps"].shape == free.shape
  said = label_propagation.labels_to_masks(handed, ids, masks.shape[1:])
  assert np.mean(said != case["pred_masks"]) < 0.005
  scores = davis.objects(masks, case["pred_masks"])
  case.equal("J", scores["J"])
  case.equal("F", scores["F"])
  j, f = scores["J"].mean(axis=1).mean(), scores["F"].mean(axis=1).mean()
  expected = {"J": j, "F": f, "J&F": (j + f) / 2}
  order = [name.strip().removesuffix(" mean") for name in case.about["arrays"]["JF"].split(",")]
  case.equal("JF", [expected[name] for name in order])


def check_pose(case):
  features, size = case["features"], tuple(map(int, case["size_hw"]))
  labels = label_propagation.pose_to_labels(case["gt_pose"][0], features.shape[1:3], size)
  case.equal("heatmap0", labels)
  handed = label_propagation.propagate(features, labels)
  case.equal("heatmaps", handed, atol=1e-4)
  pose, visible = label_propagation.labels_to_pose(case["heatmaps"], size)
  case.equal("pred_pose", pose, atol=1e-3)
  case.equal("pred_visible", visible)
  own, visible = label_propagation.labels_to_pose(handed, size)
  case.equal("pred_visible", visible)
  # Rounding of our own labels decides between patches that are nearly equal, and only there.
  fifth, sixth = -np.sort(
    -case["heatmaps"][..., 1:].reshape(*own.shape[:1], -1, own.shape[1]), axis=1
  )[:, 4:6].swapaxes(0, 1)
  differ = np.abs(own - pose).max(axis=-1) > 1e-2
  assert np.all(fifth[differ] - sixth[differ] < 1e-6)
  case.equal("human_box_size", pck.body_size(case["gt_pose"], visible), atol=1e-4)


def check_pck(case, path):
  """The clips are the file's other cases that hold a pose."""
  clips = [Case(path, p.values[1]) for p in cases("labelprop") if p.values[0] == path]
  clips = [clip for clip in clips if "gt_pose" in clip]
  parts = [clip["gt_pose"] for clip in clips], [clip["pred_pose"] for clip in clips]
  visible = [clip["pred_visible"] > 0 for clip in clips]
  score = lambda threshold: pck.pck(*parts, visible, threshold)  # noqa: E731
  case.equal("pck", [score(t).mean() for t in case["pck_thresholds"]])
  for name in [n for n in case.arrays if n.startswith("pck_per_joint_")]:
    case.equal(name, score(float(name.rpartition("_")[2])))


@pytest.mark.parametrize(("path", "prefix"), cases("boxes"))
def test_boxes(path, prefix):
  case = Case(path, prefix)
  if "boxes1" in case:
    check_pairs(case)
  elif "eval_mask" in case:
    frame_iou, counted = boxes.track_iou(case["gt"], case["pred"], case["present"])
    case.equal("frame_iou", frame_iou, atol=1e-6)
    case.equal("eval_mask", counted)
    for name, value in boxes.track_means(frame_iou, counted).items():
      case.equal(name, value)
  elif "det" in case:
    check_precision(case, path)
  elif "finish_times" in case:
    check_association(case, path)
  elif "out_first_streaming" in case:
    check_stream_tracks(case, path)
  else:
    check_track_precision(case)
  case.done()


def check_pairs(case):
  first, second = case["boxes1"][:, :, None], case["boxes2"][:, None]
  case.equal("iou_eps1e-6", boxes.iou(first, second, 1e-6))
  case.equal("giou_eps1e-6", boxes.giou(first, second, 1e-6))
  case.equal("iou_pycoco", boxes.iou(first, second))
  union = boxes.area(first) + boxes.area(second) - boxes.intersection(first, second)
  case.equal("union", union)


def summary(gt, detections):
  """COCO's AP, AP50 and AP75."""
  table = boxes.average_precision(gt, detections)
  return [table.mean(), table[:, 0].mean(), table[:, 5].mean()]


def check_precision(case, path):
  case.equal("AP_AP50_AP75", summary(case["gt"], case["det"]))
  assert case["gt"][:, 0].max() < case["n_images"]


def other(path, name):
  """Returns the first case of a file that holds an array of that name."""
  found = (Case(path, p.values[1]) for p in cases("boxes") if p.values[0] == path)
  return next(case for case in found if name in case)


def check_association(case, path):
  truth = other(path, "det")
  frames, times, fps = case["input_frames"], case["finish_times"], case["fps"].item()
  for name in [n for n in case.arrays if n.startswith("assoc_eta")]:
    eta = float(name.removeprefix("assoc_eta"))
    association = streaming.associate(frames, times, len(case[name]), fps, eta)
    case.equal(name, association)
    known = streaming.stream_detections(truth["det"], association)
    case.equal(f"sAP_eta{name.removeprefix('assoc_eta')}", summary(truth["gt"], known))


def check_stream_tracks(case, path):
  arrays, association = tracks_of(case), other(path, "finish_times")["assoc_eta0"]
  keys = case.about["tap_metric_keys"]
  case.equal("out_first_offline", columns(tapvid.scores(**arrays), keys))
  names = ("query_points", "pred_tracks", "pred_occluded")
  known = streaming.stream_tracks(*(arrays[name] for name in names), association)
  arrays |= dict(zip(names[1:], known, strict=True))
  case.equal("out_first_streaming", columns(tapvid.scores(**arrays), keys))


def check_track_precision(case):
  names = [f"{a}_{b}" for a in ("gt", "pred") for b in ("boxes", "present", "class")]
  arrays = {name: case[name] for name in names} | {"pred_score": case["pred_score"]}
  table, overlap = boxes.track_average_precision(**arrays, thresholds=tuple(case["thresholds"]))
  case.equal("AP_class_thr", table)
  case.equal("iou3d", overlap)
  case.equal("mAP", table.mean())
