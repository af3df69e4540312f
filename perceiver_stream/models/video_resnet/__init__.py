"""R(2+1)D, MC3 and R3D: residual networks of clips (1711.11248)."""

from perceiver_stream.models.video_resnet.config import Config as Config
from perceiver_stream.models.video_resnet.network import VideoResNet as VideoResNet
from perceiver_stream.models.video_resnet.network import build as build
from perceiver_stream.models.video_resnet.network import middle_channels as middle_channels
from perceiver_stream.models.video_resnet.variants import FAMILY as FAMILY
