"""Cuts: any partition of the layers is the same model, and what cannot be cut is told."""

import jax
import jax.numpy as jnp
import pytest

from perceiver_stream.execution import partition
from perceiver_stream.execution.nets import convchain, unet
from perceiver_stream.models.stages import Layer, Staged, scoped_layer

CHAIN = convchain.staged(convchain.Config(channels=(2, 2, 3), shortcut="concat"), 4, 4)
FRAME = {"x": jax.ShapeDtypeStruct((1, 1), jnp.float32)}


def test_stages_share_the_layers_out():
  names = [layer.name for layer in CHAIN.layers]
  for number in (1, 2, 3, 4):
    stages = partition(CHAIN, number).stages
    assert [layer.name for stage in stages for layer in stage.layers] == names
    assert {len(stage.layers) for stage in stages} <= {4 // number, -(-4 // number)}
  assert len(partition(CHAIN).stages) == 4
  assert [len(s.layers) for s in partition(CHAIN, (1, 3)).stages] == [1, 2, 1]


def test_parameters_do_not_depend_on_the_cut():
  one, many = partition(CHAIN, 1), partition(CHAIN)
  params, other = (jax.eval_shape(made.init, jax.random.key(0)) for made in (one, many))
  assert params == other
  parts = many.split(params)
  assert sorted(name for part in parts for name in part) == sorted(params)


def test_shortcuts_are_read_from_their_writer_or_handed_on():
  fresh, aligned = partition(CHAIN), partition(CHAIN, fresh=False)
  assert fresh.stages[2].reads == {"chain_0": 0, "chain_1": 1} and fresh.longest_link == 2
  assert aligned.stages[2].reads == {"chain_0": 1, "chain_1": 1} and aligned.longest_link == 1
  assert aligned.stages[1].writes == ("chain_0", "chain_1")
  assert fresh.delay == aligned.delay == 3 and partition(CHAIN, 1).delay == 0


def test_the_frame_itself_is_handed_on():
  """A UNet-like reading of the input deep in the net, and an answer that comes early."""
  layers = (
    scoped_layer("a", ["x"], lambda x: x),
    scoped_layer("b", ["a"], lambda x: x),
    scoped_layer("c", ["b", "x"], lambda x, y: x + y),
  )
  made = partition(Staged("late", layers, FRAME, ("a", "c"), frozenset("x")))
  assert made.stages[2].reads == {"a": 1, "b": 1, "x": 0}
  assert made.stages[0].writes == ("a", "x")


def test_every_level_of_a_unet_is_a_shortcut():
  staged = unet.staged(unet.Config(channels=(2, 2, 2)), 4, 4)
  stages = partition(staged).stages
  assert [len(stage.reads) for stage in stages] == [1, 1, 1, 1, 2, 2, 1]
  assert partition(staged).longest_link == 4


@pytest.mark.parametrize(
  ("make", "kind", "told"),
  [
    (
      lambda: partition(CHAIN, 5),
      ValueError,
      "has 4 layers and cannot be cut into 5 stages; ask for 1",
    ),
    (lambda: partition(CHAIN, -1), ValueError, "cannot be cut into -1 stages"),
    (
      lambda: partition(CHAIN, (2, 1)),
      ValueError,
      r"before the layers \(2, 1\); give rising indices",
    ),
    (lambda: partition(CHAIN, (0,)), ValueError, "give rising indices from 1 to 3"),
    (
      lambda: partition("a model"),
      TypeError,
      "partition: a str is not staged: its depth is no list of layers",
    ),
    (
      lambda: partition(Staged("net", (scoped_layer("a", ["y"], lambda y: y),), FRAME, ("a",))),
      ValueError,
      r"layer 'a' of net reads \['y'\], which nothing before it writes; there are \['x'\]",
    ),
    (
      lambda: partition(
        Staged("net", (TWO, THREE, scoped_layer("c", ["a", "b"], jnp.add)), FRAME, ("c",))
      ),
      ValueError,
      r"the registers \{'a': \(1, 2\), 'b': \(1, 3\)\} do not fit layer 'c' of net",
    ),
    (
      lambda: partition(
        Staged("net", (SHARED, SHARED._replace(name="again")), FRAME, ("chain_0",)), 2
      ),
      ValueError,
      "layer 'again' of net shares the parameters 'chain_0/conv' with stage 0; keep the layers",
    ),
    (
      lambda: convchain.staged(convchain.Config(channels=(2, 3, 4), shortcut="add"), 4, 4),
      ValueError,
      r"'chain_2' cannot add the registers .* they differ in shape; change channels",
    ),
    (
      lambda: convchain.staged(
        convchain.Config(channels=(2, 2, 2), strides=(1, 2, 1), shortcut="concat"), 4, 4
      ),
      ValueError,
      "they differ in rows and columns",
    ),
    (lambda: convchain.Config(taps=0), ValueError, "taps=0"),
    (lambda: convchain.Config(strides=(1,)), ValueError, "4 channels but 1 strides"),
    (lambda: convchain.Config(head="x"), ValueError, "head='x' is not one of"),
  ],
)
def test_what_cannot_be_is_told(make, kind, told):
  with pytest.raises(kind, match=told):
    make()


TWO = scoped_layer("a", ["x"], lambda x: jnp.concatenate([x, x], axis=1))
THREE = scoped_layer("b", ["x"], lambda x: jnp.concatenate([x, x, x], axis=1))
_chain = convchain.staged(convchain.Config(channels=(2,)), 4, 4).layers[0]
SHARED = Layer(
  "chain_0",
  ("x",),
  lambda state, inputs: _chain.call(state, {"frames": jnp.zeros((1, 4, 4, 3))}),
  _chain.initial_state,
)
