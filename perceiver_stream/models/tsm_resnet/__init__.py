"""TSM-ResNet-V2: pre-activation ResNets for clips and spectrograms, the towers of BraVe and MMV."""

from perceiver_stream.models.towers import TowerOutput as TowerOutput
from perceiver_stream.models.tsm_resnet.config import ClipConfig as ClipConfig
from perceiver_stream.models.tsm_resnet.config import Config as Config
from perceiver_stream.models.tsm_resnet.config import audio_config as audio_config
from perceiver_stream.models.tsm_resnet.encoder import FAMILY as FAMILY
from perceiver_stream.models.tsm_resnet.network import ResNetV2 as ResNetV2
