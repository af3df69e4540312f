"""The files of a run and what is made of them: logs, film strips, curves, images, the report."""
