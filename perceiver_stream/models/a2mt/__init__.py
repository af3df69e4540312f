"""A2MT: an agent that pays for the modalities that it observes."""

from perceiver_stream.models.a2mt.config import Config as Config
from perceiver_stream.models.a2mt.network import Agent as Agent
from perceiver_stream.models.a2mt.network import Heads as Heads
from perceiver_stream.models.a2mt.network import Rollout as Rollout
from perceiver_stream.models.a2mt.network import build as build
from perceiver_stream.models.a2mt.network import preferred as preferred
from perceiver_stream.models.a2mt.network import sampled as sampled
