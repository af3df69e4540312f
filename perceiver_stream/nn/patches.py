"""Conversion between images and row-major grids of patches of `p` × `q` pixels."""

from einops import rearrange
from jaxtyping import Array, Shaped

Patch = int | tuple[int, int]


def _sides(patch: Patch) -> dict[str, int]:
  rows, columns = (patch, patch) if isinstance(patch, int) else patch
  return {"p": rows, "q": columns}


def patchify(images: Shaped[Array, "*B H W C"], patch: Patch) -> Shaped[Array, "*B h w E"]:
  """Returns the grid of patches, each flattened as rows, columns, channels: E = p · q · C.

  Args:
    images: `[..., H, W, C]`, H and W multiples of the patch.
    patch: Rows and columns of a patch; one number for both.
  """
  return rearrange(images, "... (h p) (w q) c -> ... h w (p q c)", **_sides(patch))


def unpatchify(patches: Shaped[Array, "*B h w E"], patch: Patch) -> Shaped[Array, "*B H W C"]:
  """Returns the images of a grid of flattened patches; the inverse of `patchify`."""
  return rearrange(patches, "... h w (p q c) -> ... (h p) (w q) c", **_sides(patch))
