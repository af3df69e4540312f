"""Prompts: learned tokens or pixels that adapt a frozen network to a task.

The network stays as it is: its blocks are passed in as functions, and only prompts are parameters.

* `VisualPrompts`: VPT (Jia et al. 2022, 2203.12119), shallow and deep, with an optional projection.
* `GeneratedPrompts`: PGN (Loedeman et al. 2022, 2210.06466): mixes of a learned library whose weights
  a small network computes from the input; `IndependentPrompts` is its input-independent twin.
* `PixelBorder`: a learned frame around the image (Bahng et al. 2022, 2203.17274).
* `ClipCapMlp`, `ClipCapTransformer`: an embedding as a prefix of a language model (Mokady et al. 2021,
  2111.09734).

Formulas as in pgn (jochemloedeman/PGN@fe5ebc2) and CLIP_prefix_caption (rmokady, 1ad805a); of VPT and of
pixel borders the papers' rules only.
"""

import math
from collections.abc import Callable, Sequence

import haiku as hk
import jax
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Float

from perceiver_stream.nn.attention import attend
from perceiver_stream.nn.layers import LayerNorm, Linear

Tokens = Float[Array, "B N C"]
Block = Callable[[Tokens], Tokens]


def run_with_prompts(
  blocks: Sequence[Block],
  tokens: Tokens,
  prompts: Float[Array, "B P C"] | None = None,
  *,
  deep: Float[Array, "L P C"] | None = None,
  position: int = 1,
) -> Float[Array, "B M C"]:
  """Returns the tokens of a network of blocks with prompts inserted.

  Args:
    blocks: The layers of the network, functions of tokens; a final norm may be the last of them.
    tokens: `[B, N, C]`, with their positions already added; VPT expects a class token first.
    prompts: `[B, P, C]`, inserted before the first block; None: no prompts.
    deep: `[L, P, C]`, replace the prompts before blocks 1 to L (VPT-deep).
    position: Number of tokens before the prompts: 1 is after the class token (VPT), N is at the end
      (PGN).

  Raises:
    ValueError: `position` is outside of the tokens, or `deep` does not fit the blocks or prompts.
  """
  if prompts is None:
    if deep is not None:
      raise ValueError("run_with_prompts: deep prompts replace others; give prompts too.")
    prompts = jnp.zeros((len(tokens), 0, tokens.shape[-1]), tokens.dtype)
  if not 0 <= position <= tokens.shape[1]:
    raise ValueError(f"run_with_prompts: position={position} of {tokens.shape[1]} tokens.")
  if deep is not None and (len(deep) >= len(blocks) or deep.shape[1:] != prompts.shape[1:]):
    raise ValueError(
      f"run_with_prompts: deep prompts {deep.shape} need more than {len(deep)} blocks (there are "
      f"{len(blocks)}) and the number and width of prompts {prompts.shape}."
    )
  insert = lambda new, x, skip: jnp.concatenate([x[:, :position], new, x[:, skip:]], 1)  # noqa: E731
  x = insert(prompts, tokens, position)
  for i, block in enumerate(blocks):
    if deep is not None and 1 <= i <= len(deep):
      new = jnp.broadcast_to(deep[i - 1].astype(x.dtype)[None], prompts.shape)
      x = insert(new, x, position + prompts.shape[1])
    x = block(x)
  return x


class VisualPrompts(hk.Module):
  """Prompts that are parameters: `(prompts [B, P, C], deep [L, P, C] or None)`.

  Uniform at the start, within ±sqrt(6 / (3 · patch height · patch width + width)), as VPT's.

  Args:
    num_prompts: P.
    dim: C, width of the network's tokens.
    patch: Height and width of the network's patches, which set the range at the start.
    num_deep: L, layers after the first with prompts of their own; 0 is VPT-shallow.
    raw_dim: Width of the parameters, mapped to `dim` by one learned linear layer; 0: no such layer.
    name: Haiku name.
  """

  def __init__(
    self,
    num_prompts: int,
    dim: int,
    *,
    patch: tuple[int, int],
    num_deep: int = 0,
    raw_dim: int = 0,
    name: str = "visual_prompts",
  ):
    super().__init__(name=name)
    self.num_prompts = num_prompts
    self.dim = dim
    self.patch = patch
    self.num_deep = num_deep
    self.raw_dim = raw_dim

  def __call__(self, batch_size: int) -> tuple[Float[Array, "B P C"], Float[Array, "L P C"] | None]:
    """Returns prompts for `run_with_prompts`, float32."""
    width = self.raw_dim or self.dim
    bound = math.sqrt(6 / (3 * math.prod(self.patch) + width))
    start = hk.initializers.RandomUniform(-bound, bound)
    shallow = hk.get_parameter("shallow", (self.num_prompts, width), jnp.float32, start)
    deep = None
    if self.num_deep:
      deep = hk.get_parameter("deep", (self.num_deep, self.num_prompts, width), jnp.float32, start)
    if self.raw_dim:
      project = Linear(self.dim, name="projection")
      shallow, deep = project(shallow), None if deep is None else project(deep)
    return jnp.broadcast_to(shallow, (batch_size, *shallow.shape)), deep


class GeneratedPrompts(hk.Module):
  """Prompts as mixes of a learned library, weighted by logits: `act(logits) @ library`.

  Args:
    num_prompts: P.
    library_size: S, vectors in the library; normal with deviation 0.02 at the start.
    dim: C, width of the network's tokens.
    activation: `softmax` or `sigmoid`, over the library.
    name: Haiku name.

  Raises:
    ValueError: There is no such activation.
  """

  def __init__(
    self,
    num_prompts: int,
    library_size: int,
    dim: int,
    *,
    activation: str = "softmax",
    name: str = "generated_prompts",
  ):
    super().__init__(name=name)
    if activation not in ("softmax", "sigmoid"):
      raise ValueError(f"GeneratedPrompts: activation={activation!r}; use 'softmax' or 'sigmoid'.")
    self.num_prompts = num_prompts
    self.library_size = library_size
    self.dim = dim
    self.activation = jax.nn.softmax if activation == "softmax" else jax.nn.sigmoid

  def __call__(self, logits: Float[Array, "B PS"]) -> Float[Array, "B P C"]:
    """Returns the prompts of each row.

    Args:
      logits: `[B, P · S]`, outputs of a small network on the input, prompt after prompt.

    Raises:
      ValueError: Their number is not P · S.
    """
    expected = self.num_prompts * self.library_size
    if logits.shape[-1] != expected:
      raise ValueError(
        f"GeneratedPrompts '{self.module_name}': {logits.shape[-1]} logits; {self.num_prompts} prompts "
        f"from a library of {self.library_size} need {expected}."
      )
    start = hk.initializers.RandomNormal(0.02)
    library = hk.get_parameter("library", (self.library_size, self.dim), jnp.float32, start)
    weights = self.activation(rearrange(logits, "b (p s) -> b p s", p=self.num_prompts))
    return weights @ library.astype(weights.dtype)


class IndependentPrompts(hk.Module):
  """`GeneratedPrompts` from learned logits, the same for every input: the baseline of PGN.

  Args:
    generator: The mixing of the library.
    name: Haiku name.
  """

  def __init__(self, generator: GeneratedPrompts, *, name: str = "independent_prompts"):
    super().__init__(name=name)
    self.generator = generator

  def __call__(self, batch_size: int) -> Float[Array, "B P C"]:
    """Returns the prompts, equal in all rows."""
    number = self.generator.num_prompts * self.generator.library_size
    start = hk.initializers.RandomNormal(0.02)
    logits = hk.get_parameter("logits", (number,), jnp.float32, start)
    return self.generator(jnp.broadcast_to(logits, (batch_size, number)))


class PixelBorder(hk.Module):
  """Adds learned values to the outer pixels of an image, standard normal at the start.

  Args:
    width: Of the border in pixels.
    name: Haiku name.
  """

  def __init__(self, width: int, *, name: str = "pixel_border"):
    super().__init__(name=name)
    self.width = width

  def __call__(self, image: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
    """Returns the image plus the border, zero inside; see Bahng et al.'s padding prompt.

    Raises:
      ValueError: The image is too small for the border.
    """
    height, width, channels = image.shape[1:]
    inner = height - 2 * self.width
    if self.width < 1 or inner < 0 or width < 2 * self.width:
      raise ValueError(
        f"PixelBorder '{self.module_name}': a border of {self.width} does not fit an image of "
        f"{height}×{width}; use 1 to {min(height, width) // 2}."
      )
    sizes = {
      "up": (self.width, width),
      "down": (self.width, width),
      "left": (inner, self.width),
      "right": (inner, self.width),
    }
    start = hk.initializers.RandomNormal()
    parts = {
      name: hk.get_parameter(name, (*size, channels), jnp.float32, start)
      for name, size in sizes.items()
    }
    centre = jnp.zeros((inner, width - 2 * self.width, channels))
    middle = jnp.concatenate([parts["left"], centre, parts["right"]], axis=1)
    border = jnp.concatenate([parts["up"], middle, parts["down"]], axis=0)
    return image + border.astype(image.dtype)[None]


class ClipCapMlp(hk.Module):
  """Linear, tanh, linear: an embedding `[B, E]` as a prefix `[B, P, C]`.

  Args:
    prefix_length: P.
    dim: C, width of the language model's embeddings; the hidden layer has P · C // 2.
    name: Haiku name.
  """

  def __init__(self, prefix_length: int, dim: int, *, name: str = "clip_cap_mlp"):
    super().__init__(name=name)
    self.prefix_length = prefix_length
    self.dim = dim

  def __call__(self, embedding: Float[Array, "B E"]) -> Float[Array, "B P C"]:
    """Returns the prefix."""
    number = self.prefix_length * self.dim
    hidden = jnp.tanh(Linear(number // 2, name="hidden")(embedding))
    return rearrange(Linear(number, name="output")(hidden), "b (p c) -> b p c", c=self.dim)


class ClipCapTransformer(hk.Module):
  """A transformer over tokens of the embedding and learned ones; the latter become the prefix.

  Pre-norm layers (eps 1e-5) with ReLU and without biases of queries, keys and values, as released.

  Args:
    prefix_length: P, learned tokens.
    dim: C, width of the language model's embeddings.
    clip_length: Tokens that the embedding is mapped to.
    num_layers: Layers.
    num_heads: Attention heads; 8 as released.
    mlp_factor: Hidden width of the MLPs over C; 2 as released.
    name: Haiku name.
  """

  def __init__(
    self,
    prefix_length: int,
    dim: int,
    *,
    clip_length: int,
    num_layers: int = 8,
    num_heads: int = 8,
    mlp_factor: float = 2,
    name: str = "clip_cap_transformer",
  ):
    super().__init__(name=name)
    self.prefix_length = prefix_length
    self.dim = dim
    self.clip_length = clip_length
    self.num_layers = num_layers
    self.num_heads = num_heads
    self.mlp_factor = mlp_factor

  def __call__(self, embedding: Float[Array, "B E"]) -> Float[Array, "B P C"]:
    """Returns the prefix."""
    x = Linear(self.clip_length * self.dim, name="input")(embedding)
    x = rearrange(x, "b (n c) -> b n c", c=self.dim)
    start = hk.initializers.RandomNormal()
    learned = hk.get_parameter("prefix", (self.prefix_length, self.dim), jnp.float32, start)
    learned = jnp.broadcast_to(learned.astype(x.dtype), (len(x), *learned.shape))
    x = jnp.concatenate([x, learned], axis=1)
    for i in range(self.num_layers):
      block = _ReluBlock(self.num_heads, int(self.mlp_factor * self.dim), name=f"layer_{i}")
      x = block(x)
    return x[:, self.clip_length :]


class _ReluBlock(hk.Module):
  """One layer of `ClipCapTransformer`."""

  def __init__(self, num_heads: int, mlp_dim: int, *, name: str):
    super().__init__(name=name)
    self.num_heads = num_heads
    self.mlp_dim = mlp_dim

  def __call__(self, x: Tokens) -> Tokens:
    """Returns the updated tokens."""
    dim = x.shape[-1]
    normed = LayerNorm(eps=1e-5, name="attention_norm")(x)
    queries = Linear(dim, use_bias=False, name="query")(normed)
    keys, values = jnp.split(Linear(2 * dim, use_bias=False, name="key_value")(normed), 2, axis=-1)
    heads = lambda y: rearrange(y, "b n (m f) -> b n m f", m=self.num_heads)  # noqa: E731
    gathered = attend(heads(queries), heads(keys), heads(values))
    x = x + Linear(dim, name="output")(rearrange(gathered, "b n m f -> b n (m f)"))
    hidden = Linear(self.mlp_dim, name="hidden")(LayerNorm(eps=1e-5, name="mlp_norm")(x))
    return x + Linear(dim, name="mlp_output")(jax.nn.relu(hidden))
