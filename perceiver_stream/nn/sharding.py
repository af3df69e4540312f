"""Sharding of large arrays along one axis; the only device-dependent part of the models."""

from typing import Any

import jax
from jax.sharding import PartitionSpec
from jaxtyping import Array, Shaped

LATENTS = "latents"  # mesh axis over which latents and queries are sharded


def shard_axis(x: Shaped[Array, "*axes"], axis: int = 1) -> Shaped[Array, "*axes"]:
  """Returns `x` with one axis sharded over the mesh axis `latents` of the current mesh.

  The sharding of other axes is unchanged. There is no constraint without `jax.set_mesh`, if
  `latents` has one device, or if the axis is not a multiple of it.
  """
  size = dict(jax.sharding.get_abstract_mesh().shape).get(LATENTS, 1)
  if size == 1 or x.shape[axis] % size:
    return x
  spec: list[Any] = [PartitionSpec.UNCONSTRAINED] * x.ndim
  spec[axis] = LATENTS
  return jax.lax.with_sharding_constraint(x, PartitionSpec(*spec))
