"""The synthetic world: its scene, rendering, point tracks and sound.

Lengths are in pixels; the ground at zoom 1 has one unit per pixel. Positions in the image are in
raster coordinates (x, y): the centre of the first pixel is (0.5, 0.5). Times are the world's own:
seconds times `speed`.
"""
