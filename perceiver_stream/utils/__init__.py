"""Helpers that know nothing of models, streams or training."""
