"""Detection of the model in a published file."""

from perceiver_stream import zoo
from perceiver_stream.models.mapping import Detected, Flat


def detect(flat: Flat, source: str) -> Detected:
  """Returns the model of a flat .npz file or a DeepMind pickle.

  Raises:
    ValueError: The names match no known family.
  """
  for family in zoo.FAMILIES.values():
    if family.detect and (found := family.detect(flat)):
      return found
  kinds = (zoo.FAMILIES, zoo.point_trackers.FAMILIES, zoo.clip_encoders.FAMILIES)
  models, trackers, encoders = (
    ", ".join(family.name for family in kind.values() if family.detect) for kind in kinds
  )
  raise ValueError(
    f"{source}: {len(flat)} arrays, the first {sorted(flat)[:3]}, belong to no known model; files "
    f"are known of {models}, of the trackers {trackers}, and of the encoders of clips {encoders}. Give "
    f"a released file with its own names."
  )
