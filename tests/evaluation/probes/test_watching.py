"""Whether the latents of an array differ from each other at all."""

import numpy as np

from perceiver_stream.evaluation.probes import watching


def test_latents_that_are_one_vector_are_not_apart():
  rng = np.random.default_rng(0)
  own = rng.normal(size=(5, 64, 96))
  same = np.repeat(rng.normal(size=(5, 1, 96)), 64, axis=1)
  np.testing.assert_allclose(watching.latent_diversity(own), 1, atol=0.1)
  np.testing.assert_allclose(watching.latent_diversity(same), 0, atol=1e-12)
  half = watching.latent_diversity(own + same)
  assert ((half > 0.3) & (half < 0.7)).all()
  np.testing.assert_allclose(watching.latent_diversity(7 * (own + same)), half)
  np.testing.assert_array_equal(watching.latent_diversity(np.zeros((2, 4, 3))), 0)
