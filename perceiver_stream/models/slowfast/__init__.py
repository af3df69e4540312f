"""SlowFast: networks at two rates with lateral connections (1812.03982)."""

from perceiver_stream.models.slowfast.config import Config as Config
from perceiver_stream.models.slowfast.network import SlowFast as SlowFast
from perceiver_stream.models.slowfast.network import build as build
from perceiver_stream.models.slowfast.network import slow_frames as slow_frames
from perceiver_stream.models.slowfast.variants import FAMILY as FAMILY
