"""LongViViT: masking, gates, adapters and tuning by their rules; the loss is CLIP's."""

import dataclasses
import functools
import math
from typing import NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from drawn_clips import drawn, random_clips
from golden import files

from perceiver_stream.models import longvivit
from perceiver_stream.models.longvivit.masking import Kept, attend_kept, draw_kept
from perceiver_stream.models.longvivit.network import NAME
from perceiver_stream.models.longvivit.tuning import KINDS
from perceiver_stream.models.longvivit.variants import nano
from perceiver_stream.nn import masks
from perceiver_stream.nn.attention import attend
from perceiver_stream.nn.gated import TanhGate
from perceiver_stream.nn.losses.contrastive import clip_loss
from perceiver_stream.zoo import clip_encoders

WORDS = jnp.array([[1, 0, 2], [3, 0, -1]], jnp.int32)


class Made(NamedTuple):
  """A dual encoder, parameters without zeros, and clips."""

  dual: longvivit.DualEncoder
  params: dict
  clips: jax.Array


@functools.cache
def built(**changes):
  return longvivit.dual_encoder(nano(num_layers=1, **changes))


def made(**changes):
  """Returns an encoder, whose programs are compiled once for all tests, with new parameters."""
  dual = built(**changes)
  params = {module: dict(leaves) for module, leaves in drawn(dual.encoder).params.items()}
  return Made(dual, params, random_clips(dual.encoder))


FULL = {"attention": "factorised", "adapter_dim": 3, "lora_rank": 2, "masking": 0.0}


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.75, 0.9])
@pytest.mark.parametrize("sizes", [(2, 4), (3, 7), (1, 5)])
def test_masking_keeps_the_stated_number_of_different_tubelets(share, sizes):
  config = nano(num_frames=2 * sizes[0], height=4, width=4 * sizes[1], masking=share)
  total = sizes[0] * sizes[1]
  num = config.num_kept(True)
  assert num == total - round(share * total) and config.num_kept(False) == total
  kept = draw_kept(jax.random.key(1), 5, num, *sizes)
  assert kept.ids is not None and kept.ids.shape == (5, num)
  assert all(len(set(row)) == num and row == sorted(row) for row in kept.ids.tolist())
  np.testing.assert_array_equal(kept.present(5).sum(axis=1), num)
  tokens = jax.random.normal(jax.random.key(2), (5, total, 3))
  put = kept.put(kept.take(tokens))
  np.testing.assert_array_equal(put, jnp.where(kept.present(5)[..., None], tokens, 0.0))


def test_every_tubelet_is_kept_equally_often_and_rows_differ():
  kept = draw_kept(jax.random.key(0), 2000, 3, 3, 4)
  share = np.asarray(kept.present(2000)).mean(axis=0)
  np.testing.assert_allclose(share, 0.25, atol=0.04)
  assert len({tuple(row) for row in kept.ids.tolist()}) > 150


@pytest.mark.parametrize(
  "over, kind", [("both", "joint"), ("space", "space_only"), ("time", "time_only")]
)
@pytest.mark.parametrize("num_kept", [12, 5])
def test_attention_among_kept_tubelets_is_the_masked_attention_of_that_name(over, kind, num_kept):
  kept = draw_kept(jax.random.key(3), 2, num_kept, 3, 4)
  q, k, v = jax.random.normal(jax.random.key(4), (3, 2, num_kept, 2, 3))
  whole = jnp.asarray(masks.over_frames(kind, 3, 4))
  mask = jax.vmap(lambda i: whole[i][:, i])(kept.ids)
  expected = attend(q, k, v, mask)
  np.testing.assert_allclose(attend_kept(q, k, v, kept, over), expected, atol=1e-5)
  if num_kept == 12:  # all, in order: the path without ids
    np.testing.assert_allclose(attend_kept(q, k, v, Kept(3, 4), over), expected, atol=1e-5)


@pytest.mark.parametrize("golden", files("attention_masks"))
def test_gated_attention_over_time_equals_the_stored_one(golden):
  """The stored projections, `attend_kept` over time, and the gate of the blocks."""
  frames, heads = golden.hyper["frames"], golden.hyper["heads"]
  x = jnp.asarray(golden["frames/input"])
  places = x.shape[1] // frames
  weights = jnp.split(golden["params/in_proj_weight"], 3)
  biases = jnp.split(golden["params/in_proj_bias"], 3)
  split = lambda w, b: (x @ w.T + b[None, None]).reshape(*x.shape[:2], heads, -1)  # noqa: E731
  q, k, v = (split(w, b) for w, b in zip(weights, biases, strict=True))
  y = attend_kept(q, k, v, Kept(frames, places), "time").reshape(x.shape)
  y = y @ golden["params/out_proj.weight"].T + golden["params/out_proj.bias"][None, None]
  gate = hk.without_apply_rng(hk.transform(lambda x, y: TanhGate(name="gate")(x, y)))
  alpha = {"gate": {"alpha": golden["frames/gated_temporal/alpha"]}}
  golden.close("frames/gated_temporal/output", gate.apply(alpha, x, y))


def uneven(shape):
  """Returns different numbers of about 1, which layer norms do not remove."""
  return np.linspace(1, 2, math.prod(shape), dtype=np.float32).reshape(shape)


def test_gates_adapters_and_lora_start_as_the_identity():
  plain, params, clips = made(attention="frames", masking=0.0)
  more = built(**FULL)
  start = more.encoder.init(jax.random.key(0), clips)[0]
  bigger = longvivit.inserted(params, start)
  assert len(jax.tree.leaves(bigger)) > len(jax.tree.leaves(params))
  # Frames have one table of positions for all times; repeated, both networks are the same function.
  assert bigger[NAME]["positions"].shape[0] == 2 and params[NAME]["positions"].shape[0] == 1
  expected, found = (f.encoder.apply(p, {}, clips)[0] for f, p in ((plain, params), (more, bigger)))
  np.testing.assert_allclose(found.features, expected.features, atol=1e-5)
  for name, leaf in (("time_gate", "alpha"), ("adapter/up", "w"), ("attention/query", "lora_up")):
    module = next(m for m in bigger if m.startswith(f"{NAME}/block_0") and m.endswith(name))
    value = bigger[module][leaf]
    changed = bigger | {module: bigger[module] | {leaf: value + uneven(value.shape)}}
    other, _ = more.encoder.apply(changed, {}, clips)
    assert np.abs(other.features - expected.features).max() > 1e-3, name


def test_a_still_clip_is_its_image_when_the_video_path_starts_from_the_image_path():
  dual, params, clips = made(**FULL)
  params = longvivit.from_images(params, dual.encoder.config)
  still = jnp.repeat(clips[:, :1], 4, axis=1)
  image, _ = dual.encoder.apply(params, {}, clips[:, :1])
  found, _ = dual.encoder.apply(params, {}, still)
  assert image.features.shape[1] == 1
  np.testing.assert_allclose(found.features, jnp.repeat(image.features, 2, axis=1), atol=1e-5)
  np.testing.assert_allclose(found.parts["embedding"], image.parts["embedding"], atol=1e-5)
  for name in ("query", "key", "value", "output"):
    jax.tree.map(
      np.testing.assert_array_equal,
      params[f"{NAME}/block_0/time/{name}"],
      params[f"{NAME}/block_0/attention/{name}"],
    )


def test_hidden_tubelets_have_no_influence_and_zero_features():
  dual, params, clips = made(masking=0.5)
  key = jax.random.key(5)
  outputs, _ = dual.encoder.apply(params, {}, clips, True, key)
  kept = np.asarray(outputs.parts["kept"])
  assert kept.sum() == 2 * dual.encoder.config.num_kept(True) == 8
  assert not np.any(np.asarray(outputs.features)[~kept])
  hidden = np.repeat(np.repeat(np.repeat(~kept, 2, 1), 4, 2), 4, 3)[..., None]
  changed, _ = dual.encoder.apply(params, {}, jnp.where(hidden, 1 - clips, clips), True, key)
  np.testing.assert_array_equal(changed.pooled, outputs.pooled)
  other, _ = dual.encoder.apply(params, {}, clips, True, jax.random.key(6))
  assert np.any(np.asarray(other.parts["kept"]) != kept)
  whole, _ = dual.encoder.apply(params, {}, clips)
  assert np.all(np.asarray(whole.parts["kept"]))
  np.testing.assert_allclose(whole.pooled, whole.features.mean(axis=(1, 2, 3)), atol=1e-6)


def test_masking_at_inference_needs_a_key_and_images_are_whole():
  dual, params, clips = made(inference_masking=0.25, masking=0.5)
  with pytest.raises(ValueError, match="give `apply` a key as rng"):
    dual.video(params, clips)
  outputs, _ = dual.encoder.apply(params, {}, clips, False, jax.random.key(0))
  assert int(outputs.parts["kept"].sum()) == 2 * 6
  image, _ = dual.encoder.apply(params, {}, clips[:, :1], True)
  assert np.all(np.asarray(image.parts["kept"])) and image.features.shape[1:4] == (1, 2, 2)


def test_time_matters_to_joint_and_factorised_attention_and_not_to_frames():
  cases = ({"masking": 0.0}, True), (FULL, True), ({"attention": "frames", "masking": 0.0}, False)
  for fields, matters in cases:
    dual, params, clips = made(**fields)
    back = clips.reshape(2, 2, 2, *clips.shape[2:])[:, ::-1].reshape(clips.shape)
    difference = np.abs(dual.video(params, clips) - dual.video(params, back)).max()
    assert (difference > 1e-3) if matters else (difference < 1e-5), fields


def test_the_loss_is_the_symmetric_nce_of_both_towers():
  dual, params, clips = made(masking=0.0)
  video, text = dual.video(params, clips), dual.text(params, WORDS)
  np.testing.assert_allclose(jnp.linalg.norm(video, axis=1), 1.0, rtol=1e-5)
  scale = min(np.exp(float(params[NAME]["log_scale"])), 100.0)
  expected = clip_loss(video, text, scale)
  np.testing.assert_allclose(dual.loss(params, clips, WORDS), expected, rtol=1e-5)
  padded = dual.text(params, jnp.array([[3, 0]], jnp.int32))
  np.testing.assert_allclose(text[1:], padded, atol=1e-6)
  turned = dual.text(params, WORDS[:1, ::-1])
  assert np.abs(turned - text[:1]).max() > 1e-4, "order of the words"


def test_memory_falls_with_masking():
  def temporaries(share):
    sizes = {"num_frames": 16, "height": 32, "width": 32}
    dual = longvivit.dual_encoder(nano(**sizes, masking=share))
    clips = jax.ShapeDtypeStruct((2, 16, 32, 32, 3), jnp.float32)
    params = clip_encoders.template(dual.encoder)[0]
    step = jax.jit(jax.grad(dual.loss)).lower(params, clips, WORDS, jax.random.key(0))
    return step.compile().memory_analysis().temp_size_in_bytes

  assert temporaries(0.75) < 0.5 * temporaries(0.0)


@pytest.mark.parametrize("kind", ["adapters", "last_layers"])
def test_frozen_parameters_are_unchanged_to_the_bit_and_the_others_learn(kind):
  dual, params, clips = made(**FULL)
  trained, frozen = longvivit.split_params(params, kind, dual.encoder.config, num_last=1)
  before, rule = jax.tree.map(np.array, frozen), optax.adam(0.1)

  @jax.jit
  def update(trained, frozen, moments):
    merged = lambda t: hk.data_structures.merge(t, frozen)  # noqa: E731
    grads = jax.grad(lambda t: dual.loss(merged(t), clips, WORDS))(trained)
    with jax.numpy_dtype_promotion("standard"):
      change, moments = rule.update(grads, moments)
    return optax.apply_updates(trained, change), moments

  after, moments = trained, rule.init(trained)
  for _ in range(2):
    after, moments = update(after, frozen, moments)
  jax.tree.map(np.testing.assert_array_equal, before, frozen)
  moved = jax.tree.map(lambda new, old: bool(np.any(new != old)), after, trained)
  still = {f"{m}/{n}" for m in moved for n in moved[m] if not moved[m][n]}
  assert not {n for n in still if not n.endswith("/key/b")}, "parameters without a gradient"
  merged = hk.data_structures.merge(after, frozen)
  assert jax.tree.structure(merged) == jax.tree.structure(params)


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_tuning_trains_its_parameters(kind):
  config = nano(**FULL)
  params = jax.tree.map(lambda x: x, clip_encoders.template(longvivit.build(config))[0])
  expected = {
    "all": lambda n: True,
    "last_layers": lambda n: n.startswith((f"{NAME}/block_1/", f"{NAME}/norm/", f"{NAME}/proj")),
    "adapters": lambda n: "/adapter/" in n or n in INPUT,
    "lora": lambda n: "/lora_" in n or n in INPUT,
    "temporal": lambda n: "/time" in n or n in INPUT,
  }[kind]
  parts = longvivit.split_params(params, kind, config, num_last=1)
  trained, frozen = ({f"{m}/{n}" for m in part for n in part[m]} for part in parts)
  assert trained == {n for n in trained | frozen if expected(n)} and not trained & frozen
  assert len(trained | frozen) == len(jax.tree.leaves(params))
  assert bool(frozen) == (kind != "all")


INPUT = {f"{NAME}/tubelets/w", f"{NAME}/tubelets/b", f"{NAME}/positions"}


def test_weights_of_short_clips_enter_a_longer_model_and_files_keep_both_towers(tmp_path):
  _, params, _ = made(masking=0.0)
  longer, into, clips = made(num_frames=8, masking=0.0)
  params[NAME]["positions"] = jnp.broadcast_to(
    jnp.arange(2.0)[:, None, None, None], params[NAME]["positions"].shape
  )
  found = longvivit.inserted(params, into)
  np.testing.assert_allclose(found[NAME]["positions"][:, 0, 0, 0], [0, 1 / 3, 2 / 3, 1], rtol=1e-5)
  path = tmp_path / "x.safetensors"
  clip_encoders.save(path, clip_encoders.Loaded(longer.encoder, found, {}))
  loaded = clip_encoders.load(path)
  assert loaded.encoder.config == longer.encoder.config
  jax.tree.map(np.testing.assert_array_equal, loaded.params, found)
  other = made(dim=4).params
  with pytest.raises(ValueError, match=r"but the model needs"):
    longvivit.inserted(params, other)
  with pytest.raises(
    ValueError, match=r"1 of 1 arrays, such as other/w, have no place in the model"
  ):
    longvivit.inserted({"other": {"w": np.zeros(2)}}, params)


@pytest.mark.parametrize(
  "call, text",
  [
    (lambda: nano(masking=1.0).validate(), "masking=1.0 leaves none"),
    (
      lambda: nano(patch_frames=8).validate(),
      "clips of 4×8×8 .* whole number of tubelets of 8×4×4",
    ),
    (
      lambda: nano(num_frames=5).validate(),
      "clips of 5×8×8 .* whole number of tubelets of 2×4×4",
    ),
    (lambda: nano(width=15).validate(), "clips of 4×8×15 .* whole number of tubelets of 2×4×4"),
    (lambda: nano(dim=9).validate(), "dim=9 is no multiple of num_heads=2"),
    (lambda: nano(mean=(0.5, 0.5)).validate(), r"mean=\(0.5, 0.5\); give one value or three"),
    (lambda: longvivit.split_params({}, "some", nano()), "kind='some' is none of all, last_layers"),
    (lambda: longvivit.split_params({}, "lora", nano()), "lora_rank=0; use 1 or more"),
    (lambda: longvivit.split_params({}, "temporal", nano()), "has no layers over time"),
    (lambda: made().dual.text(made().params, jnp.zeros((1, 4), jnp.int32)), "captions of 4 words"),
    (lambda: made().dual.video(made().params, jnp.zeros((1, 6, 8, 8, 3))), "an image of"),
  ],
)
def test_what_does_not_fit_is_refused(call, text):
  with pytest.raises(ValueError, match=text):
    call()


def test_published_sizes_are_those_of_the_paper():
  config = longvivit.Config()
  assert config.grid[0] * config.grid[1] * config.grid[2] == 16384  # 128 frames of 256 × 256
  assert config.num_kept(True) == 4096
  count = clip_encoders.num_parameters(longvivit.build(config))
  towers = dataclasses.replace(config, num_layers=0)
  blocks = count - clip_encoders.num_parameters(longvivit.build(towers))
  assert blocks == 12 * 7_087_872  # ViT-B's
