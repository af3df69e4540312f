"""Recurrent cores over latent arrays; every core is an `hk.RNNCore`."""

from perceiver_stream.core.base import Core as Core
from perceiver_stream.core.base import CoreConfig as CoreConfig
from perceiver_stream.core.base import CoreInputs as CoreInputs
from perceiver_stream.core.following import PositionedState as PositionedState
from perceiver_stream.core.gated import Gated as Gated
from perceiver_stream.core.gated import GatedConfig as GatedConfig
from perceiver_stream.core.gated import gate as gate
from perceiver_stream.core.gated import gated as gated
from perceiver_stream.core.positioned import Positioned as Positioned
from perceiver_stream.core.positioned import PositionedConfig as PositionedConfig
from perceiver_stream.core.positioned import positioned as positioned
from perceiver_stream.core.predict_correct import PredictCorrect as PredictCorrect
from perceiver_stream.core.predict_correct import PredictCorrectConfig as PredictCorrectConfig
from perceiver_stream.core.predict_correct import Step as Step
from perceiver_stream.core.predict_correct import predict_correct as predict_correct

# Keyed by the type of the config: `(config, precision, name=…) -> core`.
CORES = {PredictCorrectConfig: predict_correct, GatedConfig: gated, PositionedConfig: positioned}
