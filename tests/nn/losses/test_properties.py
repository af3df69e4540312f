"""Losses of representations in closed form: values, ranges, invariances, gradients, replicas."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, PartitionSpec

from perceiver_stream.nn import drop_token
from perceiver_stream.nn.losses import (
  clustering,
  coclr,
  contrastive,
  dpc,
  gdt,
  head_matching,
  localisation,
  multiple_instance,
  synchronisation,
)


def units(seed: int, *shape: int):
  return contrastive.unit_length(jax.random.normal(jax.random.key(seed), shape))


X, Y, TEXT = units(0, 6, 5), units(1, 6, 5), units(2, 6, 3, 5)
VALID = jnp.array([1, 0, 1, 1, 1, 0.0])
CONTRASTS = {
  "info_nce": (contrastive.info_nce, (X, Y)),
  "clip": (lambda a, b, **k: contrastive.clip_loss(a, b, 10.0, **k), (X, Y)),
  "asymmetric": (multiple_instance.asymmetric_nce, (X, TEXT)),
  "asymmetric_once": (
    functools.partial(multiple_instance.asymmetric_nce, count_twice=False),
    (X, TEXT),
  ),
  "masked": (
    lambda a, b, v, **k: multiple_instance.symmetric_nce(a, b, valid=v, **k),
    (X, TEXT, VALID),
  ),
  "mmv": (
    lambda a, b, t, v, **k: multiple_instance.mmv_loss(a, b, a, t, text_valid=v, **k),
    (X, Y, TEXT, VALID),
  ),
}


def test_replicas_give_the_loss_and_gradient_of_the_whole_batch():
  mesh, spec = Mesh(np.array(jax.devices()[:2]), ("rows",)), PartitionSpec("rows")

  def both(loss, inputs):
    divided = jax.shard_map(
      functools.partial(loss, axis_name="rows"),
      mesh=mesh,
      in_specs=(spec,) * len(inputs),
      out_specs=PartitionSpec(),
      check_vma=False,
    )
    return [jax.value_and_grad(f, argnums=(0, 1))(*inputs) for f in (loss, divided)]

  found = jax.jit(lambda: {name: both(*case) for name, case in CONTRASTS.items()})()
  for name, ((value, grads), (value_2, grads_2)) in found.items():
    np.testing.assert_allclose(value_2, value, rtol=1e-5, err_msg=name)
    for one, two in zip(grads, grads_2, strict=True):
      np.testing.assert_allclose(two, one, atol=1e-5, err_msg=name)


def test_equal_features_cost_the_logarithm_of_the_choices():
  same = jnp.ones((4, 3))
  assert contrastive.info_nce(same, same) == pytest.approx(np.log(4))
  assert multiple_instance.symmetric_nce(same, same[:, None]) == pytest.approx(2 * np.log(4))
  assert multiple_instance.asymmetric_nce(same, same[:, None]) == pytest.approx(np.log(8))
  once = multiple_instance.asymmetric_nce(same, same[:, None], count_twice=False)
  assert once == pytest.approx(np.log(7))
  queue = jnp.ones((9, 3))
  assert contrastive.moco_loss(same, same, queue) == pytest.approx(np.log(10))


def test_only_queries_learn_from_a_queue():
  grads = jax.jit(jax.grad(contrastive.moco_loss, argnums=(0, 1, 2)))(X, Y, units(5, 7, 5))
  assert jnp.any(grads[0] != 0) and not jnp.any(grads[1]) and not jnp.any(grads[2])


def test_samples_without_text_do_not_count_and_a_batch_without_text_costs_only_sound():
  other = TEXT.at[1].set(9.0).at[5].set(-9.0)
  pairs = [multiple_instance.asymmetric_nce(X, t, valid=VALID) for t in (TEXT, other)]
  assert pairs[0] == pairs[1]
  sound = multiple_instance.asymmetric_nce(X, Y[:, None])
  nothing = multiple_instance.mmv_loss(X, Y, X, TEXT, text_valid=jnp.zeros(6))
  assert nothing == sound


@pytest.mark.parametrize("name", ["asymmetric", "symmetric", "mmv"])
def test_missing_text_may_be_nan(name):
  losses = {
    "asymmetric": lambda x, t: multiple_instance.asymmetric_nce(x, t, valid=VALID),
    "symmetric": lambda x, t: multiple_instance.symmetric_nce(x, t, valid=VALID),
    "mmv": lambda x, t: multiple_instance.mmv_loss(x, Y, x, t, text_valid=VALID),
  }
  learn = jax.jit(jax.value_and_grad(losses[name], argnums=(0, 1)))
  missing = learn(X, TEXT.at[1].set(jnp.nan).at[5].set(jnp.nan))
  jax.tree.map(np.testing.assert_array_equal, missing, learn(X, TEXT))


@pytest.mark.parametrize("softness", [0.03, 0.001])
def test_an_image_that_is_all_object_has_a_finite_background(softness):
  images, sounds = jnp.ones((2, 3, 3, 4)), jnp.ones((2, 4))  # all cosines are 1

  def loss(images):
    logits = localisation.localisation_logits(images, sounds, softness=softness)
    return localisation.localisation_loss(logits), logits

  (_, logits), grad = jax.jit(jax.value_and_grad(loss, has_aux=True))(images)
  np.testing.assert_allclose(0.07 * logits[:, -1], 1.0, rtol=1e-5)
  assert jnp.all(jnp.isfinite(grad))


def test_unit_length_has_a_finite_gradient_at_zero():
  grad = jax.grad(lambda x: jnp.sum(contrastive.unit_length(x)))(jnp.zeros((2, 3)))
  assert jnp.all(jnp.isfinite(grad))


@pytest.mark.parametrize("hypothesis", range(1, 10))
def test_gdt_without_the_slip_uses_each_transformation_once(hypothesis):
  compared = gdt.comparisons(hypothesis)
  for comparison, names in zip(compared, gdt.negatives(compared), strict=True):
    assert len(set(names)) == len(names)
    assert set(names) == {comparison.first, comparison.second} - {None}


def test_gdt_other_replicas_are_all_but_the_own():
  mesh = Mesh(np.array(jax.devices()[:2]), ("rows",))
  spec = PartitionSpec("rows")
  others = jax.shard_map(
    lambda x: gdt.of_other_replicas({"normal": gdt.Pair(x, 2 * x)}, "rows")["normal"],
    mesh=mesh,
    in_specs=spec,
    out_specs=gdt.Pair(spec, spec),
  )(X)
  np.testing.assert_array_equal(others.video, jnp.roll(X, 3, axis=0))
  np.testing.assert_array_equal(others.audio, 2 * others.video)


def test_gdt_unknown_hypothesis():
  with pytest.raises(ValueError, match="hypothesis=10; use 1 to 9"):
    gdt.comparisons(10)


def test_memory_is_a_ring_and_mines_only_when_full():
  memory = coclr.empty_memory(jax.random.key(0), 4, 3)
  assert not jnp.any(coclr.positives(memory, units(1, 2, 3), jnp.array([0, 1]), top_k=2)[:, 1:])
  batches, enqueue = [units(10 + i, 2, 3) for i in range(3)], jax.jit(coclr.enqueue)
  for i, batch in enumerate(batches):
    memory = enqueue(memory, batch, -batch, jnp.array([2 * i, 2 * i + 1]))
  assert memory.videos.tolist() == [4, 5, 2, 3] and memory.place == 2 and memory.filled == 4
  np.testing.assert_array_equal(memory.keys[:2], batches[-1])
  found = coclr.positives(memory, memory.others[2:3], jnp.array([4]), top_k=1)
  assert found.tolist() == [[True, True, False, True, False]]  # own, same video, most similar
  assert coclr.without_self(found).tolist() == [[False, True, False, True, False]]
  alone = jnp.array([[True, False, False]])
  assert coclr.without_self(alone).tolist() == alone.tolist()
  with pytest.raises(ValueError, match="4 places are no multiple of the batch, 3"):
    coclr.enqueue(memory, units(0, 3, 3), units(0, 3, 3), jnp.arange(3))


def test_momentum_update_moves_by_the_share():
  found = coclr.momentum_update({"w": jnp.zeros(2)}, {"w": jnp.full(2, 4.0)}, 0.75)
  assert found["w"].tolist() == [1.0, 1.0]


def test_mined_loss_is_zero_if_all_are_positive():
  logits = units(0, 2, 4)
  assert coclr.mined_loss(logits, jnp.ones((2, 4), bool)) == pytest.approx(0, abs=1e-6)


def test_dpc_scores_of_targets_predict_perfectly():
  eye = 30 * jnp.eye(2 * 3 * 4).reshape(2, 3, 4, -1)
  scores = dpc.dpc_scores(eye, eye)
  assert dpc.dpc_loss(scores) < 1e-6 and dpc.top_accuracy(scores) == 1
  kinds = dpc.pair_kinds(2, 3, 4)
  counts = {kind: int(np.sum(kinds == kind)) for kind in (1, -1, -3, 0)}
  assert counts == {1: 24, -1: 24 * 2, -3: 24 * 9, 0: 24 * 12}


def test_localisation_finds_the_place_of_the_own_sound():
  sounds = jnp.eye(3)
  images = jnp.full((3, 2, 2, 3), -1.0).at[jnp.arange(3), 1, 0].set(10 * jnp.eye(3))
  maps = localisation.heat_maps(images, sounds)
  own = np.stack([maps[i, i].reshape(-1) for i in range(3)])
  assert own.argmax(1).tolist() == [2, 2, 2]
  logits = jax.jit(localisation.localisation_logits, static_argnames=("negative", "as_released"))
  tri, hard = (logits(images, sounds, negative=n) for n in (0.4, None))
  assert tri.shape == hard.shape == (3, 5)
  assert localisation.localisation_loss(tri) < 1e-3
  released = logits(images, sounds, as_released=True)
  assert jnp.all(jnp.diagonal(released[:, 1:]) < -1000) and jnp.all(tri[0, 1] < released[0, 1])


def test_margin_loss_pulls_and_pushes():
  zero, far = jnp.zeros((2, 3)), jnp.array([[0.6, 0, 0.8], [0.3, 0, 0.4]])
  assert synchronisation.margin_loss(zero, far, jnp.array([1, 1])) == pytest.approx(0.625)
  apart = synchronisation.margin_loss(zero, far, jnp.array([0, 0]), margin=0.99)
  assert apart == pytest.approx(0.5 * 0.49**2)
  grad = jax.grad(synchronisation.margin_loss)(zero, zero, jnp.array([False, True]))
  assert jnp.all(jnp.isfinite(grad))
  logits = jnp.array([[-20.0, 20.0], [20.0, -20.0]])
  assert synchronisation.correspondence_loss(logits, jnp.array([1, 0])) < 1e-6
  assert synchronisation.correspondence_loss(logits, jnp.array([0, 1])) == pytest.approx(40)
  assert synchronisation.offset_accuracy(logits, jnp.array([1, 1])) == 0.5


def test_sinkhorn_reaches_the_marginals():
  rng = np.random.default_rng(0)
  weights, mass = rng.random((50, 4)) + 0.01, np.array([0.1, 0.2, 0.3, 0.4])
  rows, columns, _ = clustering.sinkhorn(weights, mass, tolerance=1e-6)
  plan = weights * rows[:, None] * columns
  np.testing.assert_allclose(plan.sum(1), 1 / 50, atol=1e-12)
  np.testing.assert_allclose(plan.sum(0), mass, atol=1e-5)


def test_balanced_labels_fill_clusters_that_kmeans_would_leave_empty():
  rng = np.random.default_rng(0)
  logits = rng.standard_normal((120, 4)) + np.array([3, 0, 0, 0])
  p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
  equal = np.bincount(clustering.balanced_labels(p).labels, minlength=4)
  assert equal.min() > 20 and np.bincount(p.argmax(1), minlength=4).max() > 80
  mass = clustering.cluster_masses(p, np.array([10, 40, 50, 20]))
  assert mass.argmax() == 0 and sorted(mass) == [10, 20, 40, 50]
  sizes = np.bincount(clustering.balanced_labels(p, cluster_mass=mass).labels, minlength=4)
  assert sizes.argmax() == 0
  released = clustering.cluster_masses(p, np.array([10, 40, 50, 20]), as_released=True)
  np.testing.assert_allclose(np.sort(1 / released), [10, 20, 40, 50])
  assert clustering.gaussian_sizes(rng, 120, 4, 10.0).min() >= 1


def test_kmeans_of_separate_groups_and_an_empty_cluster():
  x = np.array([[0.0], [1.0], [10.0], [11.0]])
  labels, centres = clustering.kmeans(x, np.array([[0.0], [9.0], [99.0]]), steps=3)
  assert labels[-1].tolist() == [0, 0, 1, 1] and centres.ravel().tolist() == [0.5, 10.5, 99.0]
  white = clustering.whitened(np.random.default_rng(0).standard_normal((40, 5)) * 9, 3)
  assert white.shape == (40, 3)
  np.testing.assert_allclose(np.linalg.norm(white, axis=1), 1)


def test_crossed_labels_train_the_other_modality():
  logits, labels = jnp.array([[[30.0, 0], [0, 30.0]]]), jnp.array([[0], [1]])
  crossed = clustering.cross_modal_loss(logits, logits[:, ::-1], labels, labels)
  assert crossed == pytest.approx(15) and clustering.head_loss(logits, labels) < 1e-6


def test_heads_are_matched():
  p = np.random.default_rng(0).random((30, 7))
  order = np.random.default_rng(1).permutation(7)
  np.testing.assert_array_equal(head_matching.match_heads(p[:, order], p), order)
  assert head_matching.match_heads(p[:, :1], p[:, :1]).tolist() == [0]


def test_drop_token_keeps_one_choice_for_all_rows():
  tokens = jnp.arange(24.0).reshape(2, 6, 2)
  order = drop_token.draw_order(jax.random.key(0), 6)
  kept = drop_token.drop_tokens(tokens, order, drop_token.kept_tokens(0.5, 7))
  np.testing.assert_array_equal(kept, tokens[:, order[:3]])
  with pytest.raises(ValueError, match="num_kept=7 of 6"):
    drop_token.drop_tokens(tokens, order, 7)
