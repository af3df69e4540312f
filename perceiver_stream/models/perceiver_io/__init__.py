"""Perceiver IO: flow, autoencoding and classes by encoders and decoders of one kind.

Source: Jaegle et al. 2021, 2103.03206 and 2107.14795; DeepMind's released code.
"""

from perceiver_stream.models.perceiver_io.halves import DecoderConfig as DecoderConfig
from perceiver_stream.models.perceiver_io.halves import EncoderConfig as EncoderConfig
from perceiver_stream.models.perceiver_io.halves import FourierConfig as FourierConfig
