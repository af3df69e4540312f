"""Self-supervised methods over towers of video, sound and text: one objective, a list of methods."""

from perceiver_stream.models.self_supervised.config import Config as Config
from perceiver_stream.models.self_supervised.methods import METHODS as METHODS
from perceiver_stream.models.self_supervised.methods import Method as Method
from perceiver_stream.models.self_supervised.network import Towers as Towers
