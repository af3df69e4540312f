"""Every staged model at its smallest, beside the ordinary way to run it."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np

from perceiver_stream import zoo
from perceiver_stream.core import PredictCorrectConfig
from perceiver_stream.execution.nets import convchain, densenet, inception, unet, vit
from perceiver_stream.modalities import vector
from perceiver_stream.models import stream_perceiver
from perceiver_stream.models.stages import Staged

ROWS, SIDE = 2, 8


class Case(NamedTuple):
  """A staged model and how it is run otherwise: `(params, frames [T, B, ...]) -> answers`."""

  staged: Staged
  run: Callable[[Any, Any], Any]


def image_net(function, staged):
  """Returns the case of a net that remembers nothing."""
  apply = hk.transform(function).apply

  def run(params, frames):
    flat = jax.jit(apply)(params, None, frames["frames"].reshape(-1, SIDE, SIDE, 3))
    return {staged.outputs[0]: flat.reshape(-1, ROWS, *flat.shape[1:])}

  return Case(staged, run)


def of_zoo(config):
  """Returns the case of a model of the zoo; `Case.staged` can be made without building it."""
  model = zoo.build(config)

  def run(params, frames):
    outputs, _ = model.unroll(params, model.initial_state(params, ROWS), frames)
    return {"predictions": outputs.predictions}

  return Case(zoo.staged(config), run)


def chain():
  """Returns the case of a chain, which has no other way to run than layer by layer."""
  staged = convchain.staged(convchain.Config(channels=(2, 2), shortcut="add"), SIDE, SIDE)

  def run(params, frames):
    registers = {"frames": frames["frames"].reshape(-1, SIDE, SIDE, 3)}
    for layer in staged.layers:
      state = layer.initial_state(registers["frames"].shape[0])
      registers |= hk.transform(layer.call).apply(params, None, state, registers)[0]
    return {"head": registers["head"].reshape(-1, ROWS, *registers["head"].shape[1:])}

  return Case(staged, jax.jit(run))


def stream_perceiver_config():
  return stream_perceiver.Config(
    modalities={"pose": vector.Config(size=3)},
    core=PredictCorrectConfig(num_latents=3, latent_dim=8, num_heads=2),
    token_dim=8,
    query_dim=8,
    num_decoder_heads=2,
    displacements=(1, 2),
  )


def moog_config(**changes):
  sizes = {"height": SIDE, "width": SIDE, "num_latents": 3, "displacements": (1, 2)}
  return dataclasses.replace(zoo.config("moog/nano"), **(sizes | changes))


def rvm_config():
  sizes = {"height": SIDE, "width": SIDE, "base_grid": (2, 2), "displacements": (1, 2)}
  return dataclasses.replace(zoo.config("rvm/nano"), **sizes)


UNET = unet.Config(channels=(2, 3), output_dim=2)
VIT = vit.Config(patch=4, dim=8, num_layers=1, num_heads=2, mlp_dim=8, output_dim=2)
DENSENET = densenet.Config(stem_channels=3, growth=2, blocks=(2, 1), bottleneck=2, num_keypoints=2)
INCEPTION = inception.Config(
  stem=(3,), modules=((2, 2, 2, 2, 2, 1),) * 2, halve_before=(1,), num_keypoints=2
)
DEEP_INCEPTION = dataclasses.replace(
  INCEPTION, modules=INCEPTION.modules[:1], halve_before=(0,), wide="double_3x3"
)
CASES: dict[str, Callable[[], Case]] = {
  "convchain": chain,
  "unet": lambda: image_net(lambda x: unet.unet(UNET, x), unet.staged(UNET, SIDE, SIDE)),
  "vit": lambda: image_net(lambda x: vit.vit(VIT, x), vit.staged(VIT, SIDE, SIDE)),
  "densenet": lambda: image_net(
    lambda x: densenet.densenet(DENSENET, x), densenet.staged(DENSENET, SIDE, SIDE)
  ),
  "inception": lambda: image_net(
    lambda x: inception.inception(DEEP_INCEPTION, x), inception.staged(DEEP_INCEPTION, SIDE, SIDE)
  ),
}
SMALLER = {"stream_perceiver": stream_perceiver_config, "moog": moog_config, "rvm": rvm_config}


def of_family(name: str) -> Case:
  """Returns the case of a family of the zoo, at its smallest."""
  return of_zoo(SMALLER[name]() if name in SMALLER else zoo.config(f"{name}/nano"))


CASES |= {name: functools.partial(of_family, name) for name, f in zoo.FAMILIES.items() if f.stages}


def frames_of(staged: Staged, ticks: int) -> dict[str, np.ndarray]:
  """Returns noise `[ticks, ROWS, ...]`; in row 1 tick 2 was not seen and tick 4 begins anew."""
  rng, frames = np.random.default_rng(0), {}
  for name, shape in staged.inputs.items():
    leading = (ticks, ROWS, *shape.shape[1:])
    if shape.dtype == jnp.bool_:
      frames[name] = np.full(leading, name != "is_first")
    elif jnp.issubdtype(shape.dtype, jnp.integer):
      frames[name] = rng.integers(0, 256, leading).astype(shape.dtype)
    else:
      frames[name] = rng.normal(size=leading).astype(shape.dtype)
  if "is_first" in frames:
    frames["is_first"][4, 1] = True
    for name in [name for name in frames if name.endswith("_valid")]:
      frames[name][2, 1] = False
  return frames


def drawn(shapes: Any) -> Any:
  """Returns random parameters of such shapes, none of which is zero, so that everything counts."""
  rng = np.random.default_rng(1)

  def draw(path, x):
    about = 1.0 if jax.tree_util.keystr(path[-1:]) == "['scale']" else 0.0
    return np.asarray(about + 0.3 * rng.normal(size=x.shape), x.dtype)

  return jax.tree_util.tree_map_with_path(draw, shapes)
