"""The same numbers as the Hugging Face port at random weights, through `load`.

Needs `transformers` and `torch` (extra `parity`). Where the port differs from the released models
it is mended first: its exact GELU is set to the tanh form, and its convolutional classifier, which
pads and pools to 55×55 tokens and reads the released kernel with rows and columns exchanged, to the
released 56×56 and the released kernel.
"""

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from extras import need

from perceiver_stream import zoo
from perceiver_stream.models.perceiver_io import autoencoder as perceiver_autoencoder
from perceiver_stream.models.perceiver_io import classifier as perceiver_classifier
from perceiver_stream.models.perceiver_io import flow as perceiver_flow

need("torch", "transformers")  # `make parity`
import torch  # noqa: E402
import transformers  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

SIZES = {
  "num_latents": 8, "d_latents": 16, "num_self_attends_per_block": 2, "hidden_act": "gelu_pytorch_tanh",
  "num_self_attention_heads": 2, "num_cross_attention_heads": 1, "attention_probs_dropout_prob": 0.0,
}  # fmt: skip


def port(name, folder, **sizes):
  """Returns a Hugging Face model with random weights, biases and norms, saved in `folder`."""
  torch.manual_seed(0)
  config = transformers.PerceiverConfig(**(SIZES | sizes))
  model = getattr(transformers, name)(config).eval()
  with torch.no_grad():
    for parameter in model.parameters():
      parameter.add_(0.1 * torch.randn_like(parameter))
  model.save_pretrained(folder)
  return model


def call(network, method, params, *args):
  f = hk.transform(lambda *a: getattr(network(), method)(*a)).apply
  return jax.jit(f)(params, None, *args)


def random(*shape):
  return np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)


@pytest.mark.parametrize(
  "options",
  [
    {},
    {"num_blocks": 2, "use_query_residual": False, "cross_attention_widening_factor": 2},
    {"qk_channels": 24, "v_channels": 16, "self_attention_widening_factor": 3},
    {"num_cross_attention_heads": 2},
    {"cross_attention_shape_for_attention": "q"},
  ],
  ids=["published", "blocks", "channels", "heads", "queries' width"],
)
def test_flow(options, tmp_path):
  sizes = {"num_blocks": 1, "train_size": [16, 24], "d_model": 322} | options
  theirs = port("PerceiverForOpticalFlow", tmp_path, **sizes)
  frames = random(2, 2, 16, 24, 3)
  patches = np.asarray(perceiver_flow.extract_patches(jnp.asarray(frames)))
  with torch.no_grad():
    expected = theirs(inputs=torch.tensor(patches.transpose(0, 1, 4, 2, 3))).logits.numpy()
  model, params = zoo.load(tmp_path)
  network = lambda: perceiver_flow.FlowPerceiver(model.config)  # noqa: E731
  actual = call(network, "__call__", params, jnp.asarray(frames))
  np.testing.assert_allclose(actual, 20 * expected, atol=1e-4)  # the port leaves out the scale
  zoo.save(tmp_path / "ours.safetensors", model, params)
  model, params = zoo.load(tmp_path / "ours.safetensors")
  np.testing.assert_array_equal(call(network, "__call__", params, jnp.asarray(frames)), actual)


def mend(model):
  """Makes a saved port's convolutional tokens those of the released model that its file is from."""
  net = model.perceiver.input_preprocessor.convnet
  net.conv.weight.data = net.conv.weight.data.transpose(2, 3)
  net.conv.zero_pad_2d = torch.nn.ZeroPad2d((2, 3, 2, 3))
  net.max_pool = torch.nn.Sequential(torch.nn.ZeroPad2d((0, 1, 0, 1)), net.max_pool)  # after ReLU


@pytest.mark.parametrize(
  "kind, side, width", [("Fourier", 224, 261), ("Learned", 16, 512), ("ConvProcessing", 224, 322)]
)
def test_classifiers(kind, side, width, tmp_path):
  name = f"PerceiverForImageClassification{kind}"
  theirs = port(name, tmp_path, num_blocks=2, num_labels=7, image_size=side, d_model=width)
  if kind == "ConvProcessing":
    mend(theirs)
  images = random(1, side, side, 3)
  with torch.no_grad():
    expected = theirs(inputs=torch.tensor(images.transpose(0, 3, 1, 2))).logits.numpy()
  model, params = zoo.load(tmp_path)
  network = lambda: perceiver_classifier.Classifier(model.config)  # noqa: E731
  actual = call(network, "__call__", params, jnp.asarray(images))
  np.testing.assert_allclose(actual, expected, atol=1e-4)


def test_autoencoder(tmp_path):
  theirs = port(
    "PerceiverForMultimodalAutoencoding", tmp_path, num_blocks=1, num_frames=2, num_labels=9,
    audio_samples_per_frame=640, output_shape=[1, 2, 32, 32], output_num_channels=24, image_size=8,
    d_model=704,
  )  # fmt: skip
  inputs = {
    "image": (random(1, 2, 32, 32, 3) + 1) / 2,
    "audio": random(1, 1280, 1),
    "label": np.zeros((1, 9), np.float32),
  }
  points = {"image": np.arange(50) * 7, "audio": np.arange(20) * 3}
  tensors = {k: torch.tensor(v) for k, v in inputs.items()}
  tensors["image"] = tensors["image"].permute(0, 1, 4, 2, 3)
  asked = {k: torch.tensor(v) for k, v in points.items()} | {"label": None}
  with torch.no_grad():
    expected = theirs(inputs=tensors, subsampled_output_points=asked).logits
  model, params = zoo.load(tmp_path)

  def decode(inputs):
    network = perceiver_autoencoder.Autoencoder(model.config)
    latents = network.encode(network.tokens(inputs))
    return network.decode(latents, points | {"label": np.zeros(1, int)})

  actual = jax.jit(hk.transform(decode).apply)(params, None, jax.tree.map(jnp.asarray, inputs))
  for name, value in actual.items():
    other = expected[name].numpy().reshape(value.shape)
    np.testing.assert_allclose(value, other, rtol=1e-4, atol=1e-4, err_msg=name)
