"""SAVi: slot attention for video, with boxes as cues or learned slots (2111.12594)."""

from perceiver_stream.models.savi.model import SlotModel as SlotModel
from perceiver_stream.models.savi.model import build as build
from perceiver_stream.models.savi.network import Config as Config
from perceiver_stream.models.savi.network import Decoded as Decoded
from perceiver_stream.models.savi.network import Savi as Savi
from perceiver_stream.models.savi.network import Unrolled as Unrolled
