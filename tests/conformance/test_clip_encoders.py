"""The contract of encoders of clips: every family's nano variants.

A new family is tested by being in `zoo.clip_encoders.PACKAGES`.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drawn_clips import random_clips, shared
from trees import assert_close

from perceiver_stream import zoo
from perceiver_stream.files import codec
from perceiver_stream.models.mapping import export_params, published_names
from perceiver_stream.zoo import clip_encoders

NANO = [name for name in clip_encoders.names() if name.split("/")[1].startswith("nano")]
CAUSAL = [name for name in NANO if clip_encoders.build(name).causal]
# Fields that the names and shapes of a published file do not determine.
KEPT = (
  "fold_div",
  "alpha",
  "causal",
  "dropout",
  "height",
  "kind",
  "memory",
  "num_frames",
  "num_heads",
  "width",
)
# Causal forms have the arrays of the others.
OTHERS = sorted(set(NANO) - set(CAUSAL))
PUBLISHED = [name for name in OTHERS if clip_encoders.FAMILIES[name.split("/")[0]].detect]


@functools.cache
def built(name: str):
  """Returns an encoder with its arrays, clips, and the outputs of the whole clips.

  Clips of causal encoders are longer than published ones, and than tables of positions.
  """
  loaded = shared(name)
  clips = random_clips(loaded.encoder, longer=2 if loaded.encoder.causal else 0)
  return loaded, clips, loaded.encoder.apply(loaded.params, loaded.statistics, clips)[0]


@pytest.mark.parametrize("name", NANO)
def test_outputs_are_finite_and_depend_on_every_row_alone(name):
  (encoder, params, statistics), clips, outputs = built(name)
  assert outputs.features.ndim == 5 and outputs.pooled.ndim == 2 and bool(outputs.is_new)
  assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(outputs))
  changed, after = encoder.apply(params, statistics, clips.at[1].set(0.5))
  assert_close(changed.features[0], outputs.features[0])
  assert not np.allclose(changed.features[1], outputs.features[1], atol=1e-3)
  jax.tree.map(np.testing.assert_array_equal, after, statistics)


@pytest.mark.parametrize("name", CAUSAL)
def test_steps_equal_the_clip(name):
  (encoder, params, statistics), clips, whole = built(name)
  state, found = encoder.initial_state(params, statistics, clips[:, 0]), []
  size = sum(x.nbytes for x in state.values())
  for t in range(clips.shape[1]):
    outputs, state = encoder.step(params, statistics, state, clips[:, t])
    if bool(outputs.is_new):
      found.append(outputs.features)
      newest = outputs
    assert_close(outputs.features, newest.features if found else jnp.zeros_like(outputs.features))
  assert_close(jnp.concatenate(found, axis=1), whole.features)
  assert sum(x.nbytes for x in state.values()) == size
  assert newest.logits is None or np.all(np.isfinite(newest.logits))


@pytest.mark.parametrize("name", CAUSAL)
def test_later_frames_change_no_earlier_feature(name):
  (encoder, params, statistics), clips, whole = built(name)
  changed, _ = encoder.apply(params, statistics, clips.at[:, -1].set(0.5))
  times = whole.features.shape[1]
  last = (clips.shape[1] - 1) * times // clips.shape[1]  # first feature that reads the last frame
  np.testing.assert_array_equal(changed.features[:, :last], whole.features[:, :last])


@pytest.mark.parametrize("name", OTHERS)
def test_others_refuse_to_run_frame_by_frame(name):
  (encoder, params, statistics), clips, _ = built(name)
  with pytest.raises(ValueError, match=r"is not causal and cannot run frame by frame\. \w+ "):
    encoder.initial_state(params, statistics, clips[:, 0])
  with pytest.raises(ValueError, match="Use `apply` on whole"):
    encoder.step(params, statistics, {}, clips[:, 0])


@pytest.mark.parametrize("name", OTHERS)
def test_files_and_configs_come_back(name, tmp_path):
  loaded, _, _ = built(name)
  clip_encoders.save(tmp_path / "x.safetensors", loaded)
  again = clip_encoders.load(tmp_path / "x.safetensors")
  assert again.encoder.config == loaded.encoder.config
  jax.tree.map(np.testing.assert_array_equal, again[1:], loaded[1:])
  assert codec.from_json(zoo.loading.configs.to_json(loaded.encoder.config)) == again.encoder.config


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_files_are_detected(name):
  loaded, _, _ = built(name)
  config, family = loaded.encoder.config, clip_encoders.FAMILIES[name.split("/")[0]]
  assert family.rules
  tree, rules = clip_encoders.merged(*loaded[1:]), family.rules(config)
  flat = export_params(tree, rules)
  assert len(flat) == len(published_names(tree, rules)), "two parameters have one published name"
  found = clip_encoders.detect(flat, "test")
  unknown = [f for f in vars(config) if f in KEPT]
  kept = {name: getattr(config, name) for name in unknown}
  found = found._replace(config=type(config)(**(vars(found.config) | kept)))
  again = clip_encoders.from_published(flat, found, "test")
  jax.tree.map(np.testing.assert_array_equal, again[1:], loaded[1:])
  one = sorted(flat)[0]
  with pytest.raises(ValueError, match=f"1 missing: {one}"):
    clip_encoders.from_published({k: v for k, v in flat.items() if k != one}, found, "test")


def test_online_loops_refuse_encoders_of_clips():
  name = NANO[0]
  with pytest.raises(ValueError, match="encodes whole clips; it is no recurrent model"):
    zoo.build(name)
  with pytest.raises(TypeError, match="config of an encoder of clips"):
    zoo.build(clip_encoders.config(name))
  with pytest.raises(TypeError, match=r"belongs to none of \['i3d', 'longvivit'"):
    clip_encoders.build(zoo.config("rvm/nano"))
  with pytest.raises(ValueError, match="no encoder of clips 'video_resnet/r3d'"):
    clip_encoders.build("video_resnet/r3d")


def test_wrong_shapes_are_named():
  (encoder, params, statistics), clips, _ = built("video_resnet/nano_causal")
  with pytest.raises(ValueError, match=r"expected \['B', 'T', 'H', 'W', 3\]"):
    encoder.apply(params, statistics, clips[0])
  with pytest.raises(ValueError, match="one frame of each row"):
    encoder.step(params, statistics, {}, clips)


@pytest.mark.parametrize("name", clip_encoders.names())
def test_every_name_can_be_built(name):
  assert clip_encoders.build(name).config == clip_encoders.config(name)


def test_a_widened_tower_keeps_the_other_fields():
  config = clip_encoders.config("tsm_resnet/resnet50")
  wide = clip_encoders.config("tsm_resnet/resnet50_x2")
  assert wide.stage_channels == tuple(2 * c for c in config.stage_channels)
  assert (type(wide), wide.num_frames, wide.stem_channels) == (type(config), 16, 128)
