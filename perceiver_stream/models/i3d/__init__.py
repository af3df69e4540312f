"""I3D: Inception-v1 inflated to clips (1705.07750)."""

from perceiver_stream.models.i3d.config import Config as Config
from perceiver_stream.models.i3d.network import I3D as I3D
from perceiver_stream.models.i3d.network import build as build
from perceiver_stream.models.i3d.variants import FAMILY as FAMILY
