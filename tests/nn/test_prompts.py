"""Prompts for frozen networks: against stored outputs and gradients, and by their rules."""

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from golden import files

from perceiver_stream.models.mapping import Rule, import_params
from perceiver_stream.nn import prompts
from perceiver_stream.nn.attention import attend


def norm(x, weight, bias, eps=1e-6):
  mean, variance = jnp.mean(x, -1, keepdims=True), jnp.var(x, -1, keepdims=True)
  return (x - mean) / jnp.sqrt(variance + eps) * wide(weight, x) + wide(bias, x)


def wide(vector, like):
  return jnp.broadcast_to(vector, like.shape)


def linear(x, weight, bias):
  y = x @ weight.T
  return y + wide(bias, y)


def backbone(arrays, sizes):
  """Returns the blocks and the final norm of torchvision's encoder, by its names."""

  def block(i):
    get = lambda name: arrays[f"blocks.{i}.{name}"]  # noqa: E731

    def run(x):
      normed = norm(x, get("ln_1.weight"), get("ln_1.bias"))
      weight, bias = get("self_attention.in_proj_weight"), get("self_attention.in_proj_bias")
      q, k, v = (
        y.reshape(*y.shape[:2], sizes["heads"], -1)
        for y in jnp.split(linear(normed, weight, bias), 3, axis=-1)
      )
      gathered = attend(q, k, v).reshape(x.shape)
      output = "self_attention.out_proj"
      x = x + linear(gathered, get(f"{output}.weight"), get(f"{output}.bias"))
      hidden = norm(x, get("ln_2.weight"), get("ln_2.bias"))
      hidden = linear(hidden, get("mlp.0.weight"), get("mlp.0.bias"))
      hidden = jax.nn.gelu(hidden, approximate=False)
      return x + linear(hidden, get("mlp.3.weight"), get("mlp.3.bias"))

    return run

  final = lambda x: norm(x, arrays["ln.weight"], arrays["ln.bias"])  # noqa: E731
  return [*map(block, range(sizes["depth"])), final]


def transformed(module, *args):
  network = hk.without_apply_rng(hk.transform(lambda *args: module()(*args)))
  return network, network.init(jax.random.key(0), *args)


def imported(arrays, template, rules):
  return jax.tree.map(jnp.asarray, import_params(arrays, template, rules, source="golden"))


@pytest.mark.parametrize("golden", files("prompts"))
def test_prompts_equal_the_stored_ones(golden):
  sizes, tokens = golden.hyper, golden["tokens"]
  run = lambda *args, **more: prompts.run_with_prompts(blocks, tokens, *args, **more)  # noqa: E731
  blocks = backbone(golden.below("backbone/"), sizes)
  golden.close("no_prompt/output", run())
  _visual(golden, run)
  _projected(golden, run)
  for name in ("softmax", "sigmoid"):
    _generated(golden, run, name)
  _border(golden)
  _clip_cap(golden)
  inputs = ("backbone/", "tokens", "vpt_projected/raw", "vpt_projected/weight")
  inputs += ("vpt_projected/bias", "clipcap_mlp/", "clipcap_transformer/", "pixel_border/")
  left = {n for n in golden.arrays if not n.startswith(inputs)} - golden.compared
  rest = ("prompts", "cotangent_class_feature", "logits", "library", "weights")
  left = {
    n for n in left if n.split("/")[1].removeprefix("shallow_").removeprefix("deep_") not in rest
  }
  assert not left, left
  outputs = {f"clipcap_{kind}/prefix" for kind in ("mlp", "transformer")} | {"pixel_border/output"}
  assert outputs <= golden.compared


def _visual(golden, run):
  batch = len(golden["tokens"])
  for name in ("vpt_shallow", "vpt_deep"):
    params = {"shallow": golden[f"{name}/shallow_prompts"]}
    if f"{name}/deep_prompts" in golden.arrays:
      params["deep"] = golden[f"{name}/deep_prompts"]

    def feature(params):
      shallow = jnp.repeat(params["shallow"], batch, axis=0)
      output = run(shallow, deep=params.get("deep"))
      return output[:, 0], output

    value, pull, output = jax.vjp(feature, params, has_aux=True)
    golden.close(f"{name}/class_feature", value)
    golden.close(f"{name}/output", output)
    (gradients,) = pull(golden[f"{name}/cotangent_class_feature"])
    for part, gradient in gradients.items():
      golden.close(f"{name}/grad_{part}_prompts", gradient)


def _projected(golden, run):
  raw, weight = golden["vpt_projected/raw"][0], golden["vpt_projected/weight"]
  number, dim = len(raw), len(weight)
  module = lambda: prompts.VisualPrompts(number, dim, patch=(2, 2), raw_dim=raw.shape[1])  # noqa: E731
  network = hk.without_apply_rng(hk.transform(lambda n: module()(n)))
  params = {
    "visual_prompts": {"shallow": raw},
    "visual_prompts/projection": {"w": weight.T, "b": golden["vpt_projected/bias"]},
  }
  found, deep = network.apply(params, len(golden["tokens"]))
  assert deep is None
  golden.close("vpt_projected/output", run(found))


def _generated(golden, run, name):
  logits, library = golden[f"pgn_{name}/logits"], golden[f"pgn_{name}/library"]
  number = golden.hyper["prompts"]

  def make(logits, library):
    module = lambda: prompts.GeneratedPrompts(number, *library.shape, activation=name)  # noqa: E731
    network = hk.without_apply_rng(hk.transform(lambda x: module()(x)))
    return network.apply({"generated_prompts": {"library": library}}, logits)

  golden.close(f"pgn_{name}/weights", make(logits, jnp.eye(len(library))))
  golden.close(f"pgn_{name}/prompts", make(logits, library))

  def feature(logits, library):
    output = run(make(logits, library), position=golden["tokens"].shape[1])
    return output[:, 0], output

  _, pull, output = jax.vjp(feature, logits, library, has_aux=True)
  golden.close(f"pgn_{name}/output", output)
  found = pull(golden[f"pgn_{name}/cotangent_class_feature"])
  for part, gradient in zip(("logits", "library"), found, strict=True):
    golden.close(f"pgn_{name}/grad_{part}", gradient)


def _border(golden):
  image = golden["pixel_border/picture"]
  network, template = transformed(lambda: prompts.PixelBorder(golden.hyper["border"]), image)
  rules = [Rule(r".*/(\w+)", r"\1", lambda shape: (1, *shape))]
  arrays = {name: np.asarray(golden[f"pixel_border/{name}"]) for name in template["pixel_border"]}
  params = imported(arrays, template, rules)
  golden.close("pixel_border/output", network.apply(params, image))


def _clip_cap(golden):
  sizes, feature = golden.hyper, golden["clipcap_mlp/feature"]
  length, dim = sizes["prefix_length"], sizes["lm_dim"]
  network, template = transformed(lambda: prompts.ClipCapMlp(length, dim), feature)
  dense = lambda ours, theirs: [  # noqa: E731
    Rule(f".*{ours}/w", f"{theirs}.weight", axes=(1, 0)),
    Rule(f".*{ours}/b", f"{theirs}.bias"),
  ]
  scale = lambda ours, theirs: [  # noqa: E731
    Rule(f".*{ours}/scale", f"{theirs}.weight"),
    Rule(f".*{ours}/offset", f"{theirs}.bias"),
  ]
  arrays = {n: np.asarray(v) for n, v in golden.below("clipcap_mlp/params/").items()}
  rules = [*dense("hidden", "model.0"), *dense("output", "model.2")]
  params = imported(arrays, template, rules)
  golden.close("clipcap_mlp/prefix", network.apply(params, feature))

  arrays = {n: np.asarray(v) for n, v in golden.below("clipcap_transformer/params/").items()}
  layer = "transformer.layers."
  module = lambda: prompts.ClipCapTransformer(  # noqa: E731
    length,
    dim,
    clip_length=sizes["clip_length"],
    num_layers=sizes["mapper_layers"],
    mlp_factor=arrays[f"{layer}0.mlp.fc1.weight"].shape[0] / dim,
  )
  network, template = transformed(module, feature)
  rules = [
    *dense("/input", "linear"),
    Rule(".*/prefix", "prefix_const"),
    *scale(r"layer_(\d+)/attention_norm", layer + r"\1.norm1"),
    *scale(r"layer_(\d+)/mlp_norm", layer + r"\1.norm2"),
    *dense(r"layer_(\d+)/query", layer + r"\1.attn.to_queries"),
    *dense(r"layer_(\d+)/key_value", layer + r"\1.attn.to_keys_values"),
    *dense(r"layer_(\d+)/output", layer + r"\1.attn.project"),
    *dense(r"layer_(\d+)/hidden", layer + r"\1.mlp.fc1"),
    *dense(r"layer_(\d+)/mlp_output", layer + r"\1.mlp.fc2"),
  ]
  params = imported(arrays, template, rules)
  golden.close("clipcap_transformer/prefix", network.apply(params, feature))


@pytest.mark.parametrize("num_deep", [0, 2])
def test_training_prompts_leaves_the_network_bitwise_unchanged_and_helps(num_deep):
  """A frozen block that adds the mean of all tokens learns a target by its prompts alone."""
  rng = np.random.default_rng(0)
  frozen = [jnp.asarray(rng.normal(size=(6, 6)), jnp.float32) for _ in range(3)]
  before = [np.array(w) for w in frozen]
  blocks = [lambda x, w=w: x + jnp.tanh(jnp.mean(x, 1, keepdims=True) @ w) for w in frozen]
  tokens, target = (jnp.asarray(rng.normal(size=s), jnp.float32) for s in ((4, 3, 6), (4, 6)))
  network, params = transformed(
    lambda: prompts.VisualPrompts(2, 6, patch=(4, 4), num_deep=num_deep), 4
  )

  def loss(params):
    shallow, deep = network.apply(params, 4)
    output = prompts.run_with_prompts(blocks, tokens, shallow, deep=deep)
    assert output.shape == (4, 5, 6)
    return jnp.mean(jnp.square(output[:, 0] - target))

  optimizer = optax.sgd(0.3)
  state, values = optimizer.init(params), []
  step = jax.jit(jax.value_and_grad(loss))
  for _ in range(40):
    value, gradients = step(params)
    updates, state = optimizer.update(gradients, state)
    params, values = optax.apply_updates(params, updates), [*values, float(value)]
  assert values[-1] < 0.95 * values[0]
  assert all(np.array_equal(a, b) for a, b in zip(before, frozen, strict=True))


def test_prompts_start_within_the_bound_of_their_paper():
  _, params = transformed(lambda: prompts.VisualPrompts(50, 32, patch=(16, 16), num_deep=3), 2)
  bound = np.sqrt(6 / (3 * 16 * 16 + 32))
  for value in jax.tree.leaves(params):
    assert 0.95 * bound < np.max(np.abs(value)) <= bound
  (library,) = jax.tree.leaves(
    transformed(lambda: prompts.GeneratedPrompts(2, 64, 64), jnp.zeros((1, 128)))[1]
  )
  assert np.std(library) == pytest.approx(0.02, rel=0.05)


def test_the_independent_twin_ignores_its_input():
  module = lambda: prompts.IndependentPrompts(prompts.GeneratedPrompts(3, 5, 4))  # noqa: E731
  network = hk.without_apply_rng(hk.transform(lambda n: module()(n)))
  found = network.apply(network.init(jax.random.key(0), 2), 2)
  assert found.shape == (2, 3, 4)
  np.testing.assert_array_equal(found[0], found[1])


def test_a_border_changes_the_outer_pixels_only():
  image = jnp.zeros((1, 6, 8, 3))
  network, params = transformed(lambda: prompts.PixelBorder(2), image)
  changed = np.any(np.asarray(network.apply(params, image))[0] != 0, axis=-1)
  inside = np.zeros((6, 8), bool)
  inside[2:4, 2:6] = True
  np.testing.assert_array_equal(changed, ~inside)


BLOCKS = [lambda x: x] * 2
TOKENS = jnp.zeros((1, 3, 4))


@pytest.mark.parametrize(
  "make, text",
  [
    (lambda: prompts.GeneratedPrompts(1, 2, 3, activation="relu"), "activation='relu'; use 'soft"),
    (lambda: prompts.GeneratedPrompts(2, 3, 4)(jnp.zeros((1, 5))), "5 logits; 2 prompts .* need 6"),
    (lambda: prompts.PixelBorder(3)(jnp.zeros((1, 5, 9, 3))), "border of 3 .* 5×9; use 1 to 2"),
    (
      lambda: prompts.run_with_prompts(BLOCKS, TOKENS, TOKENS, position=4),
      "position=4 of 3 tokens",
    ),
    (lambda: prompts.run_with_prompts(BLOCKS, TOKENS, deep=TOKENS), "give prompts too"),
    (
      lambda: prompts.run_with_prompts(BLOCKS, TOKENS, TOKENS, deep=jnp.zeros((2, 3, 4))),
      r"more than 2 blocks \(there are 2\)",
    ),
  ],
)
def test_errors_name_what_does_not_fit(make, text):
  with pytest.raises(ValueError, match=text):
    hk.transform(make).init(jax.random.key(0))
