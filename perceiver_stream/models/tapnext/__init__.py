"""TAPNext and TAPNext++: points as tokens in a recurrent vision transformer (2504.05579)."""

from perceiver_stream.models.tapnext.config import Config as Config
from perceiver_stream.models.tapnext.heads import certainty as certainty
from perceiver_stream.models.tapnext.heads import soft_position as soft_position
from perceiver_stream.models.tapnext.network import TapNext as TapNext
from perceiver_stream.models.tapnext.variants import FAMILY as FAMILY
from perceiver_stream.models.tapnext.variants import build as build
