"""V-JEPA and V-JEPA 2: features of hidden tubelets, predicted from those of visible ones."""

from perceiver_stream.models.vjepa.config import Config as Config
from perceiver_stream.models.vjepa.config import MaskConfig as MaskConfig
from perceiver_stream.models.vjepa.config import PredictorConfig as PredictorConfig
from perceiver_stream.models.vjepa.network import Encoder as Encoder
from perceiver_stream.models.vjepa.network import Predictor as Predictor
from perceiver_stream.models.vjepa.network import build as build
from perceiver_stream.models.vjepa.network import gathered as gathered
from perceiver_stream.models.vjepa.probe import AttentiveProbe as AttentiveProbe
from perceiver_stream.models.vjepa.variants import FAMILY as FAMILY
