"""MMV equals the released one: features, embeddings, statistics; and the paper's loss and gradients."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from einops import rearrange
from golden import Golden, close, files, gradients_close

from perceiver_stream.models import mmv, s3d, tsm_resnet
from perceiver_stream.models.mapping import (
  check_names,
  flatten,
  import_params,
  published_names,
  unflatten,
)
from perceiver_stream.models.tsm_resnet.weights import norm_of

each_case = pytest.mark.parametrize("golden", files("mmv"))
HEADS = {
  "vid_embd/toaud": "video_to_audio",
  "vid_embd/totxt": "video_to_text",
  "aud_embd/tovid": "audio_to_video",
  "aud_embd/totxt": "audio_to_text",
  "txt_embd/tovid": "text_to_video",
  "txt_embd/toaud": "text_to_audio",
}


def head(pair: dict, target: str) -> mmv.HeadConfig:
  """Returns the head of a released pair config into the space `target`."""
  mode, *hidden = pair[f"{target}_head_mode"].split("@")
  return mmv.HeadConfig(
    dim=pair["embedding_dim"],
    hidden=tuple(map(int, hidden)),
    norm_hidden=mode != "mlp_nobn",
    norm_last=pair[f"{target}_bn_after_proj"],
  )


def config_of(golden: Golden) -> mmv.Config:
  c, h = golden.about["config"], golden.about["hyperparameters"]
  stages = {k: tuple(h[k]) for k in ("stage_channels", "stage_blocks")}
  towers = {"stem_channels": h["stem_channels"]} | stages
  if c["visual_backbone"] == "s3d":
    found = s3d.detect(golden.part("params/"))
    assert found, "the golden's names are not those of S3D-G"
    video: Any = found.config
  else:
    video = tsm_resnet.Config(**towers).widened(c["vision_model_kwargs"].get("width_mult", 1))
  video_audio, video_text, audio_text = (
    c[f"config_{pair}"] for pair in ("video_audio", "video_text", "audio_text")
  )
  words = golden["inputs/word_embedding_matrix"].shape
  return mmv.Config(
    video=video,
    audio=tsm_resnet.Config(**towers, shift_share=0.0, project_first=False),
    vocabulary=words[0],
    word_dim=words[1],
    sentence_dim=c["sentence_dim"],
    graph=c["mm_embedding_graph"],
    video_to_text=head(video_text, "totxt"),
    video_to_audio=head(video_audio, "toaud"),
    audio_to_video=head(video_audio, "tovid"),
    audio_to_text=head(audio_text, "totxt"),
    text_to_video=head(video_text, "tovid"),
    text_to_audio=head(audio_text, "toaud"),
    audio_text=c.get("use_audio_text", False),
  )


def pixels_of(video):
  """Returns clips whose 2×2×2 blocks are channels as clips of pixels; others as they are."""
  if video.shape[-1] == 3:
    return video
  return rearrange(video, "r b t h w (i j k c) -> r b (t i) (h j) (w k) c", i=2, j=2, k=2)


@functools.cache
def made(golden: Golden):
  """Returns model, inputs (replicas first), parameters, state, and released names of both."""
  model = mmv.build(config_of(golden))
  inputs = {
    "video": pixels_of(jnp.asarray(golden["inputs/video"])),
    "audio": jnp.asarray(golden["inputs/audio_spectrogram"])[..., 0],
    "words": jnp.asarray(golden["inputs/word_ids"]),
  }
  one = jax.tree.map(lambda x: x[0], inputs)
  templates = jax.eval_shape(model.init, jax.random.key(0), one)
  given, released = golden.part("params/"), golden.part("state/")
  rules = mmv.rules(norm_of(given))
  names = [{o: p.name for o, p in published_names(t, rules).items()} for t in templates]
  np.testing.assert_array_equal(
    given[names[0]["text/embeddings"]], golden["inputs/word_embedding_matrix"]
  )
  params = jax.device_put(import_params(given, templates[0], rules, source="golden"))
  assert set(released) == set(names[1].values())
  state = unflatten({ours: jnp.asarray(released[name]) for ours, name in names[1].items()})
  return model, inputs, params, state, *names


@each_case
def test_embeddings_loss_gradients_and_statistics(golden):
  model, inputs, params, state, param_names, state_names = made(golden)
  h, crossed = golden.about["hyperparameters"], golden.about["config"]["use_xreplica_bn"]
  train = mmv.TRAIN._replace(axis_name="replicas" if crossed else None)

  def mean(params):
    one = lambda x: model.loss(params, state, x, train, temperature=h["temperature"])  # noqa: E731
    loss, others = jax.vmap(one, axis_name="replicas")(inputs)
    weights = {"video_audio": h["weight_video_audio"], "video_text": h["weight_video_text"]}
    weighted = sum(w * others[0][name] for name, w in weights.items())
    return jnp.mean(weighted), (weighted, *others)

  (_, found), gradients = jax.jit(jax.value_and_grad(mean, has_aux=True))(params)
  weighted, terms, outputs, after = found
  embed = jax.jit(jax.vmap(lambda x: model.embed(params, state, x)[0]))
  for mode, results in (("train", outputs), ("eval", embed(inputs))):
    for theirs, ours in HEADS.items():
      golden.close(f"outputs/{mode}/{theirs}", results.embeddings[ours])
    for theirs, ours in (("vid", "video"), ("aud", "audio")):
      golden.close(f"outputs/{mode}/{theirs}_repr", results.features[ours])
  golden.close("outputs/own/loss", weighted)
  for name, term in terms.items():
    golden.close(f"outputs/own/loss_{name}", term)
  released = {param_names[k]: v for k, v in flatten(gradients).items()}
  stored = golden.split("outputs/own/grads_flat", "grad_order")
  left_out = set(released) - set(stored)
  gradients_close(stored, {k: np.reshape(released[k], x.shape) for k, x in stored.items()})
  zero = {k for k, v in released.items() if not np.any(v)}
  assert left_out <= zero and zero >= set(golden.about["parameters_with_zero_gradient"])
  after = {state_names[k]: np.asarray(v[0]) for k, v in flatten(after).items()}
  for name, want in golden.split("outputs/new_state_flat", "state_order").items():
    close(want, after[name], golden.about["suggested_atol"], name)
  golden.all_compared()


@pytest.mark.parametrize(
  ("key", "config"),
  [("mmv_tsm_resnet_x1", mmv.Config()), ("mmv_s3d", mmv.Config(video=s3d.Config()))],
)
@each_case
def test_names_and_shapes_at_full_size(golden, key, config):
  about = golden.about["full_size"]
  if f"{key}_params" not in about:
    pytest.skip(f"this file names no parameters of {key}")
  model = mmv.build(config)
  inputs = {
    "video": jax.ShapeDtypeStruct((1, 2, 32, 32, 3), np.float32),
    "audio": jax.ShapeDtypeStruct((1, 96, 40), np.float32),
    "words": jax.ShapeDtypeStruct((1, 16), np.int32),
  }
  template, _ = jax.eval_shape(model.init, jax.random.key(0), inputs)
  params = {p.name: p.shape for p in published_names(template, mmv.rules()).values()}
  released = {n: np.zeros(s, bool) for n, s in about[f"{key}_params"].items()}
  check_names(released, params, source="release")
  assert sum(map(int, map(np.prod, params.values()))) == about[f"{key}_num_params"]
