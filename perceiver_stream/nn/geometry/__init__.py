"""Differentiable geometry: Lie groups, rotations, cameras, warps, alignment, estimators, losses.

Pure functions; the last axes hold coordinates or matrices, leading axes are free. Values and
gradients are finite for every finite input. Conventions, tested against the rest of the package:

- Points in an image are (x, y) in pixels; the centre of row i, column j is (j + 0.5, i + 0.5).
- A camera looks along +z with x to the right and y down. Intrinsics are (fx, fy, cx, cy) in pixels.
- Rotations are active, `x_out = R x`. Twists are (v, w), translation first; Sim(3) is (v, w, s)
  with s the logarithm of the scale. Quaternions are (w, x, y, z) with w >= 0.
- `T_source_target` maps points of the target camera to the source camera. An inverse warp samples
  the source image at the projections of the target's pixels.

Source: the layers of gvnn (Handa et al. 2016, 1607.07405) and the losses of monodepth2 (Godard et
al. 2019, 1806.01260) and SfMLearner (Zhou et al. 2017, 1704.07813), written from their equations.
Each function names where released code differs.
"""

from perceiver_stream.nn.geometry import alignment as alignment
from perceiver_stream.nn.geometry import cameras as cameras
from perceiver_stream.nn.geometry import estimators as estimators
from perceiver_stream.nn.geometry import lie as lie
from perceiver_stream.nn.geometry import photometric as photometric
from perceiver_stream.nn.geometry import rotations as rotations
from perceiver_stream.nn.geometry import warps as warps
