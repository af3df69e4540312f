"""The one-stream laboratory: can learning in order catch up with shuffling?

A learner reads RGB clips and predicts an RGB image per frame. It gets one stream in order, clip
by clip, once; it is scored in the stream before every update, and frozen on held-out streams.
`perceiver-stream lab TABLE` runs a grid of such runs and writes `docs/lab/TABLE.md`.
"""

from perceiver_stream.utils import moved

# As of version 0.1; gone in 0.2.
moved.install({"lab.objectives": "lab.masking"})
