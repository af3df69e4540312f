"""Recurrent latent arrays; every core is an `hk.RNNCore`."""

from perceiver_stream.core.gated import Gated as Gated
from perceiver_stream.core.gated import GatedConfig as GatedConfig
from perceiver_stream.core.predict_correct import CoreConfig as CoreConfig
from perceiver_stream.core.predict_correct import CoreInputs as CoreInputs
from perceiver_stream.core.predict_correct import PredictCorrect as PredictCorrect
from perceiver_stream.core.predict_correct import PredictCorrectConfig as PredictCorrectConfig

CORES = {PredictCorrectConfig: PredictCorrect, GatedConfig: Gated}
