"""MooG: a recurrent latent array whose latents follow objects (van Steenkiste et al. 2024)."""

from perceiver_stream.models.moog.config import Config as Config
from perceiver_stream.models.moog.config import DecoderConfig as DecoderConfig
from perceiver_stream.models.moog.config import EncoderConfig as EncoderConfig
from perceiver_stream.models.moog.config import StackConfig as StackConfig
from perceiver_stream.models.moog.model import MoogNetwork as MoogNetwork
from perceiver_stream.models.moog.model import build as build
from perceiver_stream.models.moog.network import Moog as Moog
from perceiver_stream.models.moog.network import Stack as Stack
from perceiver_stream.models.moog.variants import FAMILY as FAMILY
from perceiver_stream.models.recurrent import State as State
