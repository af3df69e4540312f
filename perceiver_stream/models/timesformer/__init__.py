"""TimeSformer: divided attention over time and space (2102.05095)."""

from perceiver_stream.models.timesformer.config import Config as Config
from perceiver_stream.models.timesformer.network import TimeSformer as TimeSformer
from perceiver_stream.models.timesformer.network import build as build
from perceiver_stream.models.timesformer.network import nearest as nearest
from perceiver_stream.models.timesformer.variants import FAMILY as FAMILY
