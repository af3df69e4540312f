"""Small models that predict whole frames: baselines of the lab, and the video autoencoder."""
