"""The files of a run and their presentation: logs, film strips, curves, images, the report."""
