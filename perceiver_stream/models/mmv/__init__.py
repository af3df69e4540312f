"""MMV: multimodal versatile networks of video, sound and text."""

from perceiver_stream.models.mmv.config import GRAPHS as GRAPHS
from perceiver_stream.models.mmv.config import Config as Config
from perceiver_stream.models.mmv.config import HeadConfig as HeadConfig
from perceiver_stream.models.mmv.network import EVAL as EVAL
from perceiver_stream.models.mmv.network import INPUTS as INPUTS
from perceiver_stream.models.mmv.network import TRAIN as TRAIN
from perceiver_stream.models.mmv.network import Mmv as Mmv
from perceiver_stream.models.mmv.network import build as build
from perceiver_stream.models.mmv.weights import rules as rules
