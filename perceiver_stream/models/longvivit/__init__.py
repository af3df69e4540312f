"""LongViViT: contrastive encoders of long clips and captions (2312.07395)."""

from perceiver_stream.models.longvivit.config import Config as Config
from perceiver_stream.models.longvivit.config import TextConfig as TextConfig
from perceiver_stream.models.longvivit.dual import DualEncoder as DualEncoder
from perceiver_stream.models.longvivit.dual import dual_encoder as dual_encoder
from perceiver_stream.models.longvivit.network import LongViViT as LongViViT
from perceiver_stream.models.longvivit.network import build as build
from perceiver_stream.models.longvivit.tuning import from_images as from_images
from perceiver_stream.models.longvivit.tuning import inserted as inserted
from perceiver_stream.models.longvivit.tuning import split_params as split_params
from perceiver_stream.models.longvivit.variants import FAMILY as FAMILY
