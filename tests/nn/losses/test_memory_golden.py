"""CoCLR's queue, momentum encoder and mined positives, and DPC, against released code."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden import files, gradients_close
from torch_layers import batch_norm, conv, described_convolutions

from perceiver_stream.nn.losses import coclr, contrastive, dpc

each = pytest.mark.parametrize("golden", files("ssl_cluster_memory"))


def encoder(layers: list[dict]):
  """Returns the function of CoCLR's small encoder: features of unit length, statistics after."""

  def apply(params, x, train=True):
    stats = {}
    for i, options in zip((0, 3), layers, strict=True):
      x = conv(x, params[f"0.{i}.weight"], **options)
      x, after = batch_norm(x, params, f"0.{i + 1}", train=train)
      x, stats = jax.nn.relu(x), stats | after
    x = jnp.mean(x, axis=(2, 3, 4), keepdims=True)
    x = jax.nn.relu(conv(x, params["2.weight"], params["2.bias"]))
    x = conv(x, params["4.weight"], params["4.bias"])
    return contrastive.unit_length(x.reshape(x.shape[0], -1)), stats

  return apply


@each
def test_coclr(golden):
  sizes = golden.hyper["coclr"]
  temperature = float(sizes["temperature"])
  apply = encoder(described_convolutions(golden.hyper["coclr_backbone"]))
  encoders = {
    part: {
      name: value
      for name, value in golden.below(f"params/coclr/{part}.").items()
      if not name.endswith("num_batches_tracked")
    }
    for part in ("encoder_q", "encoder_k", "sampler")
  }
  memory = coclr.Memory(
    golden["params/coclr/queue"].T,
    golden["params/coclr/queue_second"].T,
    golden["params/coclr/queue_vname"],
    golden["params/coclr/queue_ptr"][0],
    jnp.sum((golden["params/coclr/queue_label"] != -1).astype(jnp.int32)),
  )
  rate = float(golden.hyper["coclr_backbone"].split("SGD lr ")[1].split()[0])
  is_statistic = lambda name: "running" in name  # noqa: E731

  @jax.jit
  def step(fast, slow, memory, view1, view2, videos, shuffle):
    learnt = {n: v for n, v in fast.items() if not is_statistic(n)}
    old = {n: v for n, v in slow.items() if not is_statistic(n)}
    slow = slow | coclr.momentum_update(old, learnt, float(sizes["momentum"]))
    keys, slow_stats = apply(slow, view2[:, 0][shuffle])
    keys = keys[jnp.argsort(shuffle)]
    others, _ = apply(encoders["sampler"], view2[:, 1], train=True)
    mask = coclr.positives(memory, others, videos, top_k=sizes["topk"])

    def loss(learnt):
      queries, stats = apply(fast | learnt, view1[:, 0])
      logits = contrastive.queue_logits(queries, keys, memory.keys, temperature=temperature)
      every = coclr.mined_loss(logits, mask)
      return coclr.mined_loss(logits, coclr.without_self(mask)), (logits, every, stats)

    (value, (logits, every, stats)), grads = jax.value_and_grad(loss, has_aux=True)(learnt)
    after = jax.tree.map(lambda p, g: p - rate * g, learnt, grads)
    memory = coclr.enqueue(memory, keys, others, videos)
    return fast | after | stats, slow | slow_stats, memory, (logits, mask, every, value)

  fast, slow, losses = encoders["encoder_q"], encoders["encoder_k"], []
  for i in range(sizes["iterations"]):
    batch = [golden[f"inputs/coclr/{n}"][i] for n in ("block1", "block2", "video_ids", "shuffle")]
    fast, slow, memory, (logits, mask, *values) = step(fast, slow, memory, *batch)
    golden.close(f"outputs/coclr/it{i}/logits", logits)
    golden.equal(f"outputs/coclr/it{i}/mask", mask)
    golden.close(f"outputs/coclr/it{i}/queue", memory.keys.T)
    golden.close(f"outputs/coclr/it{i}/queue_second", memory.others.T)
    losses.append(values)
  every, without = np.array(losses).T
  golden.close("outputs/coclr/loss_all_positives", every)
  golden.close("outputs/coclr/loss_without_self", without)
  for name, params in (("encoder_q", fast), ("encoder_k", slow)):
    flat = [params[part].reshape(-1) for part, _ in golden.about["coclr_encoder_order"]]
    golden.close(f"outputs/coclr/{name}_flat", jnp.concatenate(flat))
  golden.all_compared("outputs/coclr")


@each
def test_dpc(golden):
  sizes = golden.hyper["dpc"]
  layers = described_convolutions(golden.hyper["dpc_backbone"])
  block = golden["inputs/dpc/block"]
  params = golden.below("params/dpc/")
  names = [name for name, _ in golden.about["dpc_grad_order"]]
  pooled = math.ceil(block.shape[3] / 4)

  def gate(params, name, x):
    return conv(x, *(params[f"agg.ConvGRUCell_00.{name}.{part}"] for part in ("weight", "bias")))

  def forward(params):
    x = block.reshape(-1, *block.shape[2:])
    for i, options in zip((0, 3), layers, strict=True):
      x = conv(x, params[f"backbone.{i}.weight"], **options)
      x, _ = batch_norm(x, params, f"backbone.{i + 1}", train=True)
      x = jax.nn.relu(x) if i == 0 else x
    assert x.shape[2] == pooled
    x = jnp.mean(x, axis=2)
    features = jnp.moveaxis(x.reshape(*block.shape[:2], x.shape[1], -1), 2, 3)  # [B, N, S, D]

    def channels_first(f):
      return lambda *arrays: f(*(a.transpose(0, 2, 1)[..., None] for a in arrays))[
        ..., 0
      ].transpose(0, 2, 1)

    @channels_first
    def cell(x, state):
      both = jnp.concatenate([x, state], axis=1)
      update, reset = (jax.nn.sigmoid(gate(params, f"{n}_gate", both)) for n in ("update", "reset"))
      out = jnp.tanh(gate(params, "out_gate", jnp.concatenate([x, state * reset], axis=1)))
      return state * (1 - update) + out * update

    @channels_first
    def predict(state):
      hidden = conv(state, params["network_pred.0.weight"], params["network_pred.0.bias"])
      return conv(
        jax.nn.relu(hidden), params["network_pred.2.weight"], params["network_pred.2.bias"]
      )

    steps = sizes["pred_step"]
    predicted = dpc.predicted_steps(jax.nn.relu(features[:, :-steps]), cell, predict, steps)
    scores = dpc.dpc_scores(predicted, features[:, -steps:])
    return dpc.dpc_loss(scores), scores

  learnt = {name: params[name] for name in names}
  (loss, scores), grads = jax.jit(jax.value_and_grad(forward, has_aux=True))(learnt)
  golden.close("outputs/dpc/loss", loss)
  golden.close("outputs/dpc/score", scores)
  kinds = dpc.pair_kinds(*scores.shape[:3])
  golden.equal("outputs/dpc/mask", kinds)
  num = golden.arrays["outputs/dpc/target"].size
  target = np.argmax((kinds == dpc.POSITIVE).reshape(num, num), axis=1)
  golden.equal("outputs/dpc/target", target)
  gradients_close(golden.split("outputs/dpc/grads_flat", "dpc_grad_order"), grads)
  golden.all_compared("outputs/dpc")
