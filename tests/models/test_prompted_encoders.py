"""Encoders of clips opened between their blocks, with prompts that are trained and saved."""

import dataclasses
import functools

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drawn_clips import drawn, random_clips, shared
from trees import assert_close

from perceiver_stream.files import array_files
from perceiver_stream.models.mapping import flatten, unflatten
from perceiver_stream.nn import prompts
from perceiver_stream.zoo import clip_encoders


def transformed(function):
  return hk.without_apply_rng(hk.transform(function))


def prompted(encoder, clips, num_deep=0):
  """Returns the class feature under learned prompts."""
  tokens, blocks = encoder.tokens_and_blocks(clips)
  make = prompts.VisualPrompts(2, tokens.shape[-1], patch=(4, 4), num_deep=num_deep)
  shallow, deep = make(len(clips))
  return prompts.run_with_prompts(blocks, tokens, shallow, deep=deep)[:, 0]


@pytest.mark.parametrize("name", ["vivit/nano", "vivit/nano, mean", "vjepa/nano"])
def test_tokens_through_the_blocks_are_the_features_with_the_same_names(name):
  name, _, mean = name.partition(", ")
  config = clip_encoders.config(name)
  config = dataclasses.replace(config, classifier="gap") if mean else config
  encoder, params, statistics = loaded = drawn(clip_encoders.build(config))
  clips = random_clips(loaded.encoder)
  whole = encoder.apply(params, statistics, clips)[0]

  def run(clips):
    tokens, blocks = encoder.tokens_and_blocks(clips)
    return prompts.run_with_prompts(blocks, tokens)

  found = jax.jit(transformed(run).apply)(params, clips)
  offset = found.shape[1] - np.prod(whole.features.shape[1:4])
  assert offset == (name == "vivit/nano" and not mean)
  assert_close(found[:, offset:], whole.features.reshape(found[:, offset:].shape))
  names = jax.eval_shape(transformed(run).init, jax.random.key(0), clips)
  assert {k: v.shape for k, v in flatten(names).items()} == {
    k: v.shape for k, v in flatten(params).items() if not k.startswith("vivit/classifier/")
  }


@pytest.mark.parametrize(
  ("name", "text"),
  [
    ("vivit/nano_factorized_encoder", "kind='factorized_encoder'.* use kind='spacetime'"),
    ("vivit/nano_causal", "causal=True need the time"),
    ("vjepa/nano_v2", "positions='rotary'.* use positions='table'"),
    ("video_resnet/nano", "no list of blocks of tokens, which prompts need; use vivit"),
  ],
)
def test_encoders_without_blocks_of_tokens_say_so(name, text):
  encoder = clip_encoders.build(name)
  s = encoder.spec
  clips = jax.ShapeDtypeStruct((1, s.num_frames, s.height, s.width, s.channels), np.float32)
  with pytest.raises(ValueError, match=text):
    jax.eval_shape(transformed(encoder.tokens_and_blocks).init, jax.random.key(0), clips)


def test_trained_prompts_leave_the_encoder_bitwise_and_come_back_from_a_file(tmp_path):
  encoder, params, _ = shared("vivit/nano")
  clips = random_clips(encoder)
  network = transformed(functools.partial(prompted, encoder, num_deep=1))
  before = {name: np.array(x) for name, x in flatten(params).items()}
  start = jax.jit(network.init)(jax.random.key(0), clips)
  learned = {name: leaves for name, leaves in start.items() if name not in params}
  assert sorted(flatten(learned)) == ["visual_prompts/deep", "visual_prompts/shallow"]

  @jax.jit
  def step(learned, frozen):
    run = lambda learned: jnp.sum(jnp.square(network.apply({**frozen, **learned}, clips) - 1))  # noqa: E731
    value, gradient = jax.value_and_grad(run)(learned)
    return value, jax.tree.map(lambda x, g: x - 0.02 * g, learned, gradient)

  values = []
  for _ in range(4):
    value, learned = step(learned, params)
    values.append(float(value))
  assert values == sorted(values, reverse=True) and values[-1] < 0.99 * values[0]
  for name, value in flatten(params).items():
    np.testing.assert_array_equal(value, before[name])
  array_files.write_safetensors(tmp_path / "prompts.safetensors", flatten(learned), {})
  again = unflatten(array_files.read_safetensors(tmp_path / "prompts.safetensors")[0])
  assert float(step(again, params)[0]) == float(step(learned, params)[0])
