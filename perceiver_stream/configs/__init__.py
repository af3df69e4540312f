"""Experiments: `--config=NAME:VARIANT` takes the `get_config(variant)` of a file here.

A file of one's own works alike, by its path. In a checkout, `configs/` is a link to this folder.
"""
