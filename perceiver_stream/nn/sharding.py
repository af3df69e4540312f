"""The axis along which a large array may be sharded; models know nothing else about devices."""

from typing import Any

import jax
from jax.sharding import PartitionSpec
from jaxtyping import Array, Shaped

LATENTS = "latents"  # the mesh axis over which latents and queries are spread


def shard_axis(x: Shaped[Array, "*axes"], axis: int = 1) -> Shaped[Array, "*axes"]:
  """Returns `x` unchanged, one axis divided over the mesh axis `latents` of the mesh in use.

  The other axes stay as they are. Without `jax.set_mesh`, on a mesh whose `latents` has one
  device, or where the axis is not a multiple of it, nothing is asked for.
  """
  size = dict(jax.sharding.get_abstract_mesh().shape).get(LATENTS, 1)
  if size == 1 or x.shape[axis] % size:
    return x
  spec: list[Any] = [PartitionSpec.UNCONSTRAINED] * x.ndim
  spec[axis] = LATENTS
  return jax.lax.with_sharding_constraint(x, PartitionSpec(*spec))
