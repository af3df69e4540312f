"""The one-stream laboratory: can learning in order catch up with shuffling?

A learner sees RGB clips and paints an RGB picture per frame. It watches one stream in order, clip
by clip, once; it is scored in the stream before every update, and frozen on streams it never saw.
`perceiver-stream lab TABLE` runs a grid of such runs and writes `docs/lab/TABLE.md`.
"""
