"""Rows that do not count: the loss is that of the others alone; labels and clusters on the device."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_stream.nn.losses import (
  clustering,
  coclr,
  contrastive,
  dpc,
  gdt,
  localisation,
  multiple_instance,
  nt_xent,
  online_clustering,
  synchronisation,
)

KEPT = np.array([True, False, True, True, False])
ROWS = len(KEPT)


def draw(seed, *shape):
  return contrastive.unit_length(jax.random.normal(jax.random.key(seed), (ROWS, *shape)))


def gdt_of(hypothesis):
  def loss(a, b, c, d, valid=None):
    pairs = {"normal": gdt.Pair(a, b), "reversed": gdt.Pair(c, d)}
    return gdt.gdt_loss(pairs, hypothesis, valid=valid)

  return loss, [draw(i, 4) for i in range(4)]


def localised(images, sounds, valid=None):
  logits = localisation.localisation_logits(images, sounds, valid=valid)
  return localisation.localisation_loss(logits, valid)


def clustered(logits, valid=None):
  labels = jnp.arange(2 * logits.shape[0]).reshape(-1, 2) % 3
  return clustering.head_loss(
    jnp.swapaxes(logits, 0, 1), jnp.where(logits[..., 0] > 0, 1, labels * 0), valid
  )


LABELS = jnp.array([1.0, 0.0, 0.0, 1.0, 1.0])
CASES = {
  "info_nce": (contrastive.info_nce, [draw(0, 4), draw(1, 4)]),
  "clip": (lambda a, b, **k: contrastive.clip_loss(a, b, 9.0, **k), [draw(0, 4), draw(1, 4)]),
  "moco": (
    lambda a, b, **k: contrastive.moco_loss(a, b, jnp.ones((3, 4)), **k),
    [draw(0, 4), draw(1, 4)],
  ),
  "nt_xent": (lambda a, b, **k: nt_xent.nt_xent(a, b, **k)[0], [draw(0, 4), draw(1, 4)]),
  "asymmetric_nce": (
    lambda a, b, valid=None: multiple_instance.asymmetric_nce(a, b, rows=valid),
    [draw(0, 4), draw(1, 3, 4)],
  ),
  "mil_nce": (
    lambda a, b, valid=None: multiple_instance.mil_nce(a, b, rows=valid),
    [draw(0, 4), draw(1, 3, 4)],
  ),
  "gdt_variant": gdt_of(2),
  "gdt_invariant": gdt_of(3),
  "margin": (synchronisation.margin_loss, [draw(0, 4), draw(1, 4), LABELS]),
  "correspondence": (synchronisation.correspondence_loss, [draw(0, 2), LABELS]),
  "localisation": (localised, [draw(0, 2, 2, 4), draw(1, 4)]),
  "heads": (clustered, [draw(0, 2, 3)]),
  "dpc": (
    lambda a, b, valid=None: dpc.dpc_loss(dpc.dpc_scores(a, b, valid), valid),
    [draw(0, 2, 3, 4), draw(1, 2, 3, 4)],
  ),
  "mined": (
    lambda z, valid=None: coclr.mined_loss(z, z >= z[:, :1], valid),
    [draw(0, 6)],
  ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_loss_is_that_of_the_rows_that_count(name):
  loss, arrays = CASES[name]

  @jax.jit  # one program a case
  def compared(arrays):
    valid = jnp.asarray(KEPT)
    spoiled = [jnp.where(valid.reshape(-1, *[1] * (x.ndim - 1)), x, jnp.nan) for x in arrays]
    found = jax.value_and_grad(lambda x: loss(*x, valid=valid))(spoiled)
    return found, loss(*(x[KEPT] for x in arrays)), loss(*spoiled, valid=jnp.zeros(ROWS, bool))

  (found, gradients), alone, nothing = compared(arrays)
  np.testing.assert_allclose(found, alone, rtol=1e-5)
  assert all(np.all(np.isfinite(g)) and not np.any(np.asarray(g)[~KEPT]) for g in gradients)
  assert nothing == 0


def test_only_rows_that_count_enter_the_memory_of_coclr():
  memory = coclr.empty_memory(jax.random.key(0), 10, 4)
  keys, videos = draw(3, 4), jnp.arange(ROWS)
  for _ in range(2):
    memory = coclr.enqueue(memory, keys, -keys, videos, jnp.asarray(KEPT))
  assert memory.videos.tolist() == [0, 2, 3, 0, 2, 3, -1, -1, -1, -1]
  assert (int(memory.place), int(memory.filled)) == (6, 6)
  np.testing.assert_array_equal(memory.keys[:3], keys[KEPT])


def test_steps_of_k_means_on_the_device_are_those_of_numpy():
  rng = np.random.default_rng(0)
  x, valid = rng.normal(size=(30, 3)).astype(np.float32), rng.random(30) < 0.7
  start = np.concatenate([x[valid][:3], [[99.0, 99, 99]]]).astype(np.float32)
  _, centres = clustering.kmeans(x[valid], start, steps=4)
  spoiled = jnp.where(jnp.asarray(valid)[:, None], x, jnp.nan)
  found = online_clustering.moved_centres(spoiled, jnp.asarray(start), jnp.asarray(valid), 4)
  np.testing.assert_allclose(found, centres, atol=1e-5)
  labels, _ = clustering.kmeans(x, np.asarray(found), steps=1)
  np.testing.assert_array_equal(online_clustering.assigned(jnp.asarray(x), found), labels[0])


def test_balanced_labels_on_the_device_are_those_of_numpy():
  rng = np.random.default_rng(1)
  p = jax.nn.softmax(jnp.asarray(rng.normal(size=(40, 4)) + [2.0, 0, 0, 0], jnp.float32))
  expected = clustering.balanced_labels(np.asarray(p), sharpness=2.0, tolerance=1e-8)
  memory = jnp.concatenate([jnp.log(p), jnp.zeros((8, 4))])  # the last eight are left out
  mass = jnp.where(jnp.arange(48) < 40, 0.0, -jnp.inf)
  found = online_clustering.balanced_assignment(memory, jnp.log(p), mass, 200)
  np.testing.assert_array_equal(found, expected.labels)
  assert np.bincount(found, minlength=4).max() < np.bincount(np.argmax(p, axis=1)).max()
