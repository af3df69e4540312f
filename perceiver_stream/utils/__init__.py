"""Helpers that do not depend on models, streams or training."""
