"""Experiments: `--config=NAME:VARIANT` calls `get_config(variant)` of a file in this folder.

The path of your own file works in the same way. In a checkout, `configs/` is a link to this folder.
"""
