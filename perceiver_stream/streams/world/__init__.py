"""The synthetic world, in parts: what is in it, how it looks, where its points go, how it sounds.

Lengths are in pixels; the ground at zoom 1 has one unit per pixel. Places in the image are in
raster coordinates (x, y): the centre of the first pixel is (0.5, 0.5). Times are the world's own:
seconds times `speed`.
"""
