"""Metrics, honest baselines, pictures and the report of a run."""
