"""The main model: a multimodal recurrent Perceiver that predicts future observations."""

from perceiver_stream.models.recurrent import State as State
from perceiver_stream.models.stream_perceiver.config import BottleneckConfig as BottleneckConfig
from perceiver_stream.models.stream_perceiver.config import Config as Config
from perceiver_stream.models.stream_perceiver.network import StreamPerceiver as StreamPerceiver
from perceiver_stream.models.stream_perceiver.network import build as build
from perceiver_stream.models.stream_perceiver.network import fitted as fitted
from perceiver_stream.models.stream_perceiver.variants import FAMILY as FAMILY
