"""ViViT: vision transformers over tubelets (2103.15691)."""

from perceiver_stream.models.vivit import positions as positions
from perceiver_stream.models.vivit.config import Config as Config
from perceiver_stream.models.vivit.network import ViViT as ViViT
from perceiver_stream.models.vivit.network import build as build
from perceiver_stream.models.vivit.variants import FAMILY as FAMILY
