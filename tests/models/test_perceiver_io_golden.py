"""The released Perceiver models' own numbers: every stored array of every golden file."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden import Golden
from published import (
  autoencoder_config,
  call,
  classifier_config,
  flow_config,
  golden_files,
  jitted,
  load_params,
)

from perceiver_stream.models.perceiver_io import autoencoder as perceiver_autoencoder
from perceiver_stream.models.perceiver_io import classifier as perceiver_classifier
from perceiver_stream.models.perceiver_io import flow as perceiver_flow
from perceiver_stream.models.perceiver_io.halves import Encoder
from perceiver_stream.models.perceiver_io.weights import DEEPMIND, IGNORED


def read_latents(params, prefix, config, tokens):
  """Returns the latents after the cross-attention alone."""
  sub = {k.removeprefix(prefix + "/"): v for k, v in params.items() if k.startswith(prefix)}
  return call(lambda: Encoder(config, name="encoder"), "read", sub, tokens)


@pytest.mark.parametrize("path", golden_files("perceiver_io_flow"))
def test_flow(path):
  golden = Golden(path)
  config = flow_config(golden.hyper)
  make = lambda: perceiver_flow.FlowPerceiver(config)  # noqa: E731
  frames = jnp.asarray(golden.arrays["inputs/images"])
  published = golden.part("params/")
  params = load_params(make, (frames,), DEEPMIND["perceiver_flow"], published)
  assert sum(x.size for x in jax.tree.leaves(params)) == golden.about["num_parameters"]

  golden.close("intermediate/patches", perceiver_flow.extract_patches(frames))
  tokens = call(make, "tokens", params, frames)
  golden.close("intermediate/encoder_input", tokens)
  read = read_latents(params, "perceiver_flow", config.encoder, tokens)
  golden.close("intermediate/latents_after_cross_attend", read)
  latents = call(make, "encode", params, tokens)
  golden.close("intermediate/latents", latents)
  answers = call(make, "decode", params, latents, tokens)
  scale = config.flow_scale / config.rescale
  golden.close("intermediate/decoder_output", answers / scale)
  golden.close("outputs/flow", call(make, "__call__", params, frames))

  some = np.asarray([3, 700, 0, 41]) % tokens.shape[1]
  subset = call(make, "decode", params, latents, tokens[:, some])
  np.testing.assert_allclose(subset, answers[:, some], atol=1e-6)


@pytest.mark.parametrize("path", golden_files("perceiver_io_flow"))
def test_flow_of_a_large_image(path):
  golden = Golden(path)
  if "inputs/tiled_images" not in golden.arrays:
    pytest.skip("no large image in this file")
  config, tiling = flow_config(golden.hyper), golden.about["tiling"]
  make = lambda: perceiver_flow.FlowPerceiver(config)  # noqa: E731
  frames = golden.arrays["inputs/tiled_images"][None]
  tile = tuple(tiling["patch_size"])
  shape = jax.ShapeDtypeStruct((1, 2, *tile, config.channels), jnp.float32)
  params = load_params(make, (shape,), DEEPMIND["perceiver_flow"], golden.part("params/"))
  model, visited = jitted(make, "__call__"), []

  def flow(window):
    visited.append(window)
    return model(params, window)

  overlap = tiling["min_overlap"]
  actual = perceiver_flow.tiled_flow(flow, frames, tile, overlap=overlap)
  golden.close("outputs/tiled_flow", actual)
  starts = {tuple(corner) for corner in golden.arrays["inputs/tiled_grid"].tolist()}
  assert len(visited) == len(starts)
  ours = {
    (y, x)
    for y in perceiver_flow.tile_starts(frames.shape[2], tile[0], overlap)
    for x in perceiver_flow.tile_starts(frames.shape[3], tile[1], overlap)
  }
  assert ours == starts


@pytest.mark.parametrize("path", golden_files("perceiver_io_multimodal"))
def test_autoencoder(path):
  golden = Golden(path)
  config = autoencoder_config(golden.hyper)
  make = lambda: perceiver_autoencoder.Autoencoder(config)  # noqa: E731
  inputs = {k: jnp.asarray(golden.arrays[f"inputs/{k}"]) for k in ("image", "audio", "label")}
  rules = DEEPMIND["perceiver_autoencoder"]
  params = load_params(make, (inputs,), rules, golden.part("params/"))
  assert len(golden.part("params/")) == golden.about["num_parameter_arrays"]

  tokens = call(make, "tokens", params, inputs)
  golden.close("intermediate/encoder_input", tokens)
  read = read_latents(params, "perceiver_autoencoder", config.encoder, tokens)
  golden.close("intermediate/latents_after_cross_attend", read)
  latents = call(make, "encode", params, tokens)
  golden.close("intermediate/latents", latents)

  points = {m: golden.arrays[f"inputs/chunk_{m}_points"] for m in ("audio", "image")}
  first = {"audio": points["audio"][0], "image": points["image"][0], "label": np.zeros(1, int)}
  queries = jnp.concatenate([call(make, "queries", params, m, first[m]) for m in sorted(first)])
  rows = jnp.broadcast_to(queries[None], (latents.shape[0], *queries.shape))
  golden.close("intermediate/decoder_query_chunk0", rows)
  decoded = call(make, "decoded", params, latents, queries)
  golden.close("intermediate/decoder_output_chunk0", decoded)

  outputs = call(make, "__call__", params, inputs)
  for name in ("audio", "image", "label"):
    golden.close(f"outputs/{name}", outputs[name])
  scattered = {m: golden.arrays[f"inputs/scattered_{m}_points"] for m in ("audio", "image")}
  some = call(make, "decode", params, latents, scattered | {"label": np.zeros(1, int)})
  golden.close("outputs/scattered_image", some["image"])
  golden.close("outputs/scattered_audio", some["audio"].reshape(latents.shape[0], -1))
  golden.close("outputs/scattered_label", some["label"][:, 0])


@pytest.mark.parametrize("path", golden_files("perceiver_classifier"))
def test_classifier(path):
  golden = Golden(path)
  published = golden.part("params/") | golden.part("state/")
  config = classifier_config(golden.hyper, published)
  make = lambda: perceiver_classifier.Classifier(config)  # noqa: E731
  images = jnp.asarray(golden.arrays["inputs/images"])
  rules = DEEPMIND["perceiver_classifier"]
  params = load_params(make, (images,), rules, published, ignore=IGNORED)

  tokens = call(make, "tokens", params, images)
  golden.close("intermediate/encoder_input", tokens)
  read = read_latents(params, "perceiver_classifier", config.encoder, tokens)
  golden.close("intermediate/latents_after_cross_attend", read)
  latents = call(make, "encode", params, tokens)
  golden.close("intermediate/latents", latents)
  query = jnp.broadcast_to(
    params["perceiver_classifier/query"]["pos_embs"][None], (len(images), 1, config.query_dim)
  )
  golden.close("intermediate/decoder_query", query)
  golden.close("intermediate/decoder_output", call(make, "decode", params, latents))
  golden.close("outputs/logits", call(make, "__call__", params, images))
