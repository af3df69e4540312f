"""TSM: temporal shift module in residual networks (1811.08383)."""

from perceiver_stream.models.tsm.config import Config as Config
from perceiver_stream.models.tsm.network import Tsm as Tsm
from perceiver_stream.models.tsm.network import build as build
from perceiver_stream.models.tsm.variants import FAMILY as FAMILY
