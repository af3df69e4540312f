"""Time and memory of `nn.attend`, at once and in blocks, compared with a plain softmax.

  python benchmarks/attention.py

Memory at full size is XLA's temporary memory: the programs are compiled, not run.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import common
import jax
import jax.numpy as jnp

from perceiver_stream.nn import attend

PLAIN = "plain softmax"  # the reference
THIN = 8 * 2**20


class Size(NamedTuple):
  """Of queries and keys: `[1, Q, heads, width]` and `[1, N, heads, width]`."""

  name: str
  queries: int
  keys: int
  heads: int
  width: int

  @property
  def logits_mb(self) -> float:
    """Size of all logits at once, in float32."""
    return 4 * self.queries * self.keys * self.heads / common.MB


# The optical flow Perceiver IO encodes 368 x 496 pixels into 2048 latents, and decodes them.
MEASURED = (
  Size("self-attention of 1024 latents", 1024, 1024, 8, 64),
  Size("1024 latents read 45,632 pixels", 1024, 45632, 1, 128),
  Size("45,632 pixels ask 1024 latents", 45632, 1024, 1, 128),
)
FULL = (
  Size("2048 latents read 182,528 pixels", 2048, 182528, 1, 512),
  Size("182,528 pixels ask 2048 latents", 182528, 2048, 1, 512),
)
TINY = (Size("tiny", 64, 512, 1, 8),)


def plain(queries: jax.Array, keys: jax.Array, values: jax.Array) -> jax.Array:
  """Returns attention by its textbook formula."""
  logits = jnp.einsum("bqmf,bnmf->bmqn", queries, keys) / math.sqrt(queries.shape[-1])
  return jnp.einsum("bmqn,bnmg->bqmg", jax.nn.softmax(logits, axis=-1), values)


CONTESTANTS = {
  PLAIN: plain,
  "jax.nn.dot_product_attention": jax.nn.dot_product_attention,
  "attend": attend,
  "attend, at once": partial(attend, logits_bytes=2**62),
  "attend, blocks of 8 MB": partial(attend, logits_bytes=THIN),
}


def gradient(function: Callable) -> Callable:
  """Returns the gradient of a scalar made of the result, by queries, keys and values."""
  return jax.grad(lambda *x: jnp.sum(jnp.square(function(*x))), argnums=(0, 1, 2))


def measure(size: Size, repeats: int) -> list[list[Any]]:
  keys = jax.random.split(jax.random.PRNGKey(0), 3)
  lengths = (size.queries, size.keys, size.keys)
  shapes = [(1, length, size.heads, size.width) for length in lengths]
  inputs = [jax.random.normal(key, shape) for key, shape in zip(keys, shapes, strict=True)]
  forward = {n: common.program(f, *inputs) for n, f in CONTESTANTS.items()}
  backward = {n: common.program(gradient(f), *inputs) for n, f in CONTESTANTS.items()}
  calls = {n: partial(p.call, *inputs) for n, p in forward.items()}
  calls |= {f"{n}/gradient": partial(p.call, *inputs) for n, p in backward.items()}
  seconds = {n: s.wall for n, s in common.medians(calls, repeats).items()}
  back = {n: seconds[f"{n}/gradient"] for n in CONTESTANTS}
  return [
    [
      size.name,
      name,
      1e3 * seconds[name],
      seconds[name] / seconds[PLAIN],
      1e3 * back[name],
      back[name] / back[PLAIN],
      forward[name].temp_bytes / common.MB,
      backward[name].temp_bytes / common.MB,
      backward[name].temp_bytes / backward[PLAIN].temp_bytes,
    ]
    for name in CONTESTANTS
  ]


def measure_memory(size: Size) -> list[list[Any]]:
  shape = lambda n: jax.ShapeDtypeStruct((1, n, size.heads, size.width), jnp.float32)  # noqa: E731
  inputs = (shape(size.queries), shape(size.keys), shape(size.keys))
  temp = lambda f: common.program(f, *inputs).temp_bytes / common.MB  # noqa: E731
  chosen = {n: CONTESTANTS[n] for n in (PLAIN, "jax.nn.dot_product_attention", "attend")}
  forward = {n: temp(f) for n, f in chosen.items()}
  backward = {n: temp(gradient(f)) for n, f in chosen.items()}
  return [
    [
      size.name,
      name,
      forward[name],
      forward[name] / forward[PLAIN],
      backward[name],
      backward[name] / backward[PLAIN],
    ]
    for name in chosen
  ]


def main(argv: list[str] | None = None) -> None:
  options = common.arguments_of(argv, __doc__ or "", globals())
  about = common.machine()
  measured, full = (TINY, TINY) if options.tiny else (MEASURED, FULL)
  repeats = 1 if options.tiny else 3
  logits = "; ".join(f"{s.name}: {s.logits_mb:,.0f} MB" for s in measured)
  beside = f"x {PLAIN}"
  tables = [
    common.Table(
      "Time and memory",
      [
        "attention",
        "by",
        "forward ms",
        beside,
        "gradient ms",
        beside,
        "forward temp MB",
        "gradient temp MB",
        beside,
      ],
      [row for size in measured for row in measure(size, repeats)],
      f"Float32; medians of {repeats}, taken in turns. Logits at once: {logits}. `attend` works in "
      "blocks from 134 MB of logits on.",
    ),
    common.Table(
      "Memory at full size (compiled, not run)",
      ["attention", "by", "forward temp MB", beside, "gradient temp MB", beside],
      [row for size in full for row in measure_memory(size)],
    ),
  ]
  common.publish("attention", options, tables, about)


if __name__ == "__main__":
  main()
