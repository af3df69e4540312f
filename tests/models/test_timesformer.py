"""TimeSformer against released code: tokens, outputs, gradients; other sizes; causal forms."""

import re

import jax.numpy as jnp
import numpy as np
import pytest
from clip_golden import ClipGolden, channels_last, exported, paths_of, train_step
from drawn_clips import drawn, random_clips, shared

from perceiver_stream.models import timesformer
from perceiver_stream.models.mapping import export_params, published_names
from perceiver_stream.models.timesformer import nearest, weights
from perceiver_stream.zoo import clip_encoders

FILES = paths_of("timesformer")


def config_of(golden: ClipGolden, kind: str) -> timesformer.Config:
  h = golden.hyper
  height, width = [h["img"]] * 2 if isinstance(h["img"], int) else h["img"]
  return timesformer.Config(
    kind=kind,  # pyright: ignore[reportArgumentType]
    num_frames=h["frames"],
    height=height,
    width=width,
    patch=h["patch"],
    dim=h["dim"],
    num_layers=h["depth"],
    num_heads=h["heads"],
    mlp_dim=h["dim"] * h["mlp_ratio"],
    num_classes=h["classes"],
    norm_eps=h["layer_norm_eps"],
    mean=(0.0,),
    std=(1.0,),
  )


def released_order(outputs, block: int, kind: str) -> np.ndarray:
  """Returns the tokens of a block in the released order: class, then (place, time)."""
  patches, classes = (np.asarray(outputs.parts[f"{n}_{block}"]) for n in ("block", "class"))
  if kind == "space_only":
    both = np.concatenate([classes, patches], axis=2)
    return both.reshape(-1, *both.shape[2:])
  flat = patches.swapaxes(1, 2).reshape(len(patches), -1, patches.shape[-1])
  return np.concatenate([classes[:, 0], flat], axis=1)


def compare(golden: ClipGolden, out: str, kind: str, outputs, names: list[str]) -> None:
  """Compares one result with stored arrays, by the words in their names."""
  for name in names:
    if "block" in name:
      actual = released_order(outputs, int(name.split("block")[1]), kind)
    else:
      actual = outputs.pooled if "feature" in name else outputs.logits
    golden.close(f"{out}/{name}", actual)


def input_of(name: str, others: list[str]) -> str:
  """Returns the clips of other sizes that an output is of, by the most words in common."""
  words = lambda text: set(re.findall(r"[a-z]+|\d+", text)) - {"clip", "clips"}  # noqa: E731
  fitting = [other for other in others if words(other) <= words(name)]
  assert fitting or len(others) == 1, f"{name} is of none of the inputs {others}"
  return max(fitting, key=lambda other: len(words(other))) if fitting else others[0]


@pytest.mark.parametrize("path", FILES)
def test_golden(path):
  golden = ClipGolden(path)
  clips, labels = channels_last(golden["inputs/clips"]), golden["inputs/labels"]
  others = [n for n in golden.part("inputs/") if n not in ("clips", "labels")]
  for kind in golden.about["grad_order"]:
    config, out = config_of(golden, kind), f"outputs/{kind}"
    loaded = golden.load(config, f"params/{kind}/", weights.rules)
    outputs, loss, grads, _ = train_step(loaded, clips, labels)
    golden.close(f"{out}/loss", loss)
    order = golden.about["grad_order"][kind]
    golden.gradients(f"{out}/grads_flat", order, exported(grads, weights.rules(config)))
    names = [n for n in golden.part(f"{out}/") if n not in ("loss", "grads_flat")]
    usual = [n for n in names if re.fullmatch(r"logits|cls_feature|block\d+", n)]
    compare(golden, out, kind, outputs, usual)
    for other in others:  # clips of other sizes, with the tables resized
      found = loaded.encoder.apply(*loaded[1:], channels_last(golden[f"inputs/{other}"]))[0]
      its = [n for n in names if n not in usual and input_of(n, others) == other]
      compare(golden, out, kind, found, its)
  golden.all_compared()


def test_outputs_belong_to_the_clips_that_their_names_say():
  assert input_of("other_logits", ["other_clips"]) == "other_clips"
  assert input_of("logits_resized", ["other_clips"]) == "other_clips", "the only one"
  both = ["larger_clips", "larger_2_clips"]
  assert [input_of(n, both) for n in ("larger_logits", "block0_larger_2")] == both
  with pytest.raises(AssertionError, match="logits is of none"):
    input_of("logits", both)


def test_tables_are_resized_to_the_nearest_as_in_torch():
  assert nearest(4, 4).tolist() == [0, 1, 2, 3]
  assert nearest(5, 3).tolist() == [0, 1, 3]
  assert nearest(2, 5).tolist() == [0, 0, 0, 1, 1]
  loaded = shared("timesformer/nano")
  clips = random_clips(loaded.encoder, 1)
  twice = jnp.repeat(jnp.repeat(clips, 2, axis=2), 2, axis=3)[:, :, :12]
  found = loaded.encoder.apply(*loaded[1:], twice)[0]
  assert found.features.shape == (1, 3, 3, 4, 8) and np.all(np.isfinite(found.features))


@pytest.mark.parametrize("kind", ["divided_space_time", "joint_space_time", "space_only"])
def test_names_of_a_state_dict_give_the_kind(kind):
  encoder = timesformer.build(timesformer.Config(kind=kind, num_layers=1))
  params, _ = clip_encoders.template(encoder)
  names = published_names(params, weights.rules(encoder.config)).values()
  found = weights.detect({p.name: np.broadcast_to(0, p.shape) for p in names})
  assert found and found.config == encoder.config


def test_full_size_has_the_published_count():
  # ViT-B with 400 classes, 8 times, and in each block temporal attention, its norm and temporal_fc.
  block = 7_087_872 + 4 * 768 * 768 + 4 * 768 + 2 * 768 + 768 * 768 + 768
  patches, tables = 3 * 16 * 16 * 768 + 768, (1 + 197 + 8) * 768
  expected = patches + tables + 12 * block + 2 * 768 + 768 * 400 + 400
  assert clip_encoders.num_parameters(clip_encoders.build("timesformer/base")) == expected


@pytest.mark.parametrize("kind", ["divided_space_time", "joint_space_time"])
def test_a_causal_model_of_one_frame_is_the_other_one(kind):
  config = clip_encoders.config("timesformer/nano")
  config.kind = kind
  loaded = drawn(timesformer.build(config))
  flat = export_params(loaded.params, weights.rules(config))
  found = clip_encoders.Detected(type(config)(**vars(config) | {"causal": True}), weights.rules)
  causal = clip_encoders.from_published(flat, found, "test")
  clips = random_clips(loaded.encoder)[:, :1]
  one, other = (x.encoder.apply(x.params, {}, clips)[0].logits for x in (loaded, causal))
  # The nearest time of a clip of one frame is the first, which a stream starts with.
  np.testing.assert_allclose(one, other, atol=1e-5)


def test_fields_that_do_not_fit_together_are_named():
  with pytest.raises(ValueError, match="memory=9 frames, but there are positions for 8"):
    timesformer.build(timesformer.Config(memory=9))
  with pytest.raises(ValueError, match="frames of 8 × 224 have no patch of side 16"):
    timesformer.build(timesformer.Config(height=8))
