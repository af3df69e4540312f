"""BraVe: broaden your views."""

from perceiver_stream.models.brave.config import Config as Config
from perceiver_stream.models.brave.network import EVAL as EVAL
from perceiver_stream.models.brave.network import TRAIN as TRAIN
from perceiver_stream.models.brave.network import VIEWS as VIEWS
from perceiver_stream.models.brave.network import Brave as Brave
from perceiver_stream.models.brave.network import build as build
from perceiver_stream.models.brave.weights import rules as rules
