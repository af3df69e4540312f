"""S3D-G: separable 3-D Inception with gates (1712.04851), the other video tower of MMV."""

from perceiver_stream.models.s3d.config import ClipConfig as ClipConfig
from perceiver_stream.models.s3d.config import Config as Config
from perceiver_stream.models.s3d.network import S3D as S3D
from perceiver_stream.models.s3d.variants import FAMILY as FAMILY
from perceiver_stream.models.s3d.variants import build as build
from perceiver_stream.models.s3d.weights import detect as detect
