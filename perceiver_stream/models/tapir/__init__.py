"""Online TAPIR and BootsTAPIR: points by correlation and a causal mixer (2306.08637)."""

from perceiver_stream.models.tapir.config import Config as Config
from perceiver_stream.models.tapir.network import Tapir as Tapir
from perceiver_stream.models.tapir.variants import FAMILY as FAMILY
from perceiver_stream.models.tapir.variants import build as build
