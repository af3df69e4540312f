import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from perceiver_stream import streams, zoo
from perceiver_stream.models import stream_perceiver
from perceiver_stream.nn import shard_axis
from perceiver_stream.training import mesh as meshes
from perceiver_stream.training import step
from perceiver_stream.training.mesh import MeshConfig, axis_sizes, make_mesh, own_rows, place
from perceiver_stream.training.objectives import FuturePrediction, ObjectiveConfig
from perceiver_stream.training.optimizers import OptimizerConfig, make_optimizer


@pytest.mark.parametrize(
  ("sizes", "rows", "count", "expected"),
  [
    ({}, 4, 4, (4, 1, 1)),
    ({}, 3, 4, (3, 1, 1)),
    ({}, 1, 4, (1, 1, 1)),
    ({"data": 2}, 4, 8, (2, 1, 1)),
    ({"fsdp": 2}, 4, 8, (4, 2, 1)),
    ({"fsdp": 2, "latents": 2}, 1, 8, (1, 2, 2)),
    ({"data": 1, "fsdp": 0}, 1, 8, (1, 8, 1)),
    ({"data": 2, "latents": 0}, 2, 8, (2, 1, 4)),
  ],
)
def test_sizes_of_the_axes(sizes, rows, count, expected):
  found = axis_sizes(MeshConfig(**sizes), rows, count, 1)
  assert found == dict(zip(("data", "fsdp", "latents"), expected, strict=True))


@pytest.mark.parametrize(
  ("sizes", "rows", "processes", "message"),
  [
    ({"fsdp": -1}, 1, 1, r"mesh.fsdp=-1; use 1 or more devices, or 0"),
    ({"fsdp": 0}, 1, 1, r"data and fsdp are both 0.*--config.mesh.data=1"),
    ({"data": 4, "fsdp": 4}, 4, 1, r"data=4, fsdp=4, latents=1 needs 16 devices, there are 8"),
    ({"data": 4}, 6, 1, r"num_rows=6 cannot be divided over data=4.*one of \[1, 2, 3, 6\]"),
    ({}, 4, 2, r"num_rows=4 cannot be divided over data=8"),
    ({"data": 4}, 4, 2, r"uses 4 of 8 devices, and some process would have none; .* to 8"),
  ],
)
def test_what_does_not_fit_is_said(sizes, rows, processes, message):
  with pytest.raises(ValueError, match=message):
    axis_sizes(MeshConfig(**sizes), rows, 8, processes)


def test_nothing_to_divide_is_said():
  mesh = make_mesh(MeshConfig(data=1, fsdp=2), 1)
  with pytest.raises(ValueError, match=r"mesh.fsdp=2: no parameter of 1024 numbers or more"):
    meshes.check_divided(mesh, meshes.divided(mesh, {"w": np.zeros((45, 45)), "b": np.zeros(64)}))
  mesh = make_mesh(MeshConfig(data=1, latents=2), 1)
  with pytest.raises(ValueError, match=r"mesh.latents=2: the model has 7 latents, which cannot"):
    meshes.carried(mesh, {"latents": np.zeros((1, 7, 4))}, 1)
  with pytest.raises(ValueError, match=r"the model carries no latents"):
    meshes.carried(mesh, {"h": np.zeros((1, 8))}, 1)


def test_parameters_are_divided_along_their_longest_axis():
  mesh = make_mesh(MeshConfig(data=1, fsdp=2), 1)
  shapes = {"w": (32, 64), "odd": (33, 64), "b": (64,), "conv": (3, 3, 128, 64)}
  found = meshes.divided(mesh, {name: np.zeros(shape) for name, shape in shapes.items()})
  assert {name: tuple(sharding.spec) for name, sharding in found.items()} == {
    "w": (None, "fsdp"),
    "odd": (None, "fsdp"),
    "b": (),
    "conv": (None, None, "fsdp"),
  }


def test_rows_go_over_fsdp_too_where_they_can():
  mesh = make_mesh(MeshConfig(data=1, fsdp=2), 2)
  assert meshes.row_axes(mesh, 2) == ("data", "fsdp")
  assert meshes.row_axes(mesh, 3) == ("data",)
  assert own_rows(mesh, 2) == (0, 1)


@pytest.mark.parametrize("rows", [1, 2, 4])
def test_a_window_on_the_mesh_is_the_window(rows):
  mesh = make_mesh(MeshConfig(), rows)
  window = {"x": np.arange(3 * rows * 2, dtype=np.float32).reshape(3, rows, 2)}
  placed = place(mesh, rows, window)["x"]
  np.testing.assert_array_equal(placed, window["x"])
  assert placed.addressable_data(0).shape == (3, max(1, rows // 2), 2)


def test_spread_asks_only_where_it_can():
  mesh = make_mesh(MeshConfig(data=1, latents=2), 1)

  def where(x):
    with jax.set_mesh(mesh):
      return jax.jit(lambda x: shard_axis(x) * 1.0)(x).sharding.spec

  assert tuple(where(jnp.ones((3, 4, 5))))[:2] == (None, "latents")
  assert where(jnp.ones((3, 5, 5))) == PartitionSpec()
  x = jnp.ones((3, 4))
  assert shard_axis(x) is x  # no mesh in use


def learnt(sizes):
  """Returns parameters, latents and loss after two windows, and how the parameters lie."""
  mesh, rows, seen = make_mesh(MeshConfig(**sizes), 2), 2, {}
  config = zoo.config("stream_perceiver/nano")
  config.modalities = {"pixels": config.modalities["pixels"]}
  config.displacements = (1,)
  world = streams.synthetic.Config(height=16, width=16, modalities=("pixels",))
  config = stream_perceiver.fitted(config, streams.specs(world))
  model = zoo.build(config)
  shape = model.modalities["pixels"].spec.shape
  optimizer = make_optimizer(OptimizerConfig(eps=1e-3))
  observation = {"pixels": np.zeros((rows, *shape), np.uint8)}
  objective = FuturePrediction(model, ObjectiveConfig(window=2))
  state, sharding = step.placed_train_state(mesh, objective, optimizer, observation, 0)
  run = step.make_train_step(objective.loss_and_grad, optimizer, sharding, rows)
  rng = np.random.default_rng(0)
  for _ in range(2):
    seen["pixels"] = rng.integers(0, 255, (3, rows, *shape), dtype=np.uint8)
    state, info = run(state, place(mesh, rows, seen))
  held = sum(x.addressable_data(0).nbytes for x in jax.tree.leaves((state.params, state.opt_state)))
  spec = state.model_state.latents.sharding.spec
  return jax.device_get((state.params, state.model_state.latents, info.loss)), held, spec


@pytest.mark.slow  # a real model, compiled three times
def test_every_axis_gives_the_numbers_of_one_device():
  one, whole, _ = learnt({"data": 1})
  for sizes in ({"data": 1, "fsdp": 2}, {"data": 1, "latents": 2}):  # rows go over fsdp too
    found, held, spec = learnt(sizes)
    assert (held < 0.8 * whole) == ("fsdp" in sizes), sizes
    assert ("latents" in spec) == ("latents" in sizes), sizes
    same = lambda a, b, n=str(sizes): np.testing.assert_allclose(a, b, 1e-3, 1e-5, err_msg=n)  # noqa: E731
    jax.tree.map(same, found, one)
