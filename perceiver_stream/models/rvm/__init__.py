"""RVM: a vision transformer per frame and a gated grid of latents (2512.13684)."""

from perceiver_stream.models.recurrent import State as State
from perceiver_stream.models.rvm.config import Config as Config
from perceiver_stream.models.rvm.config import LayersConfig as LayersConfig
from perceiver_stream.models.rvm.model import RvmNetwork as RvmNetwork
from perceiver_stream.models.rvm.model import build as build
from perceiver_stream.models.rvm.network import Rvm as Rvm
from perceiver_stream.models.rvm.network import draw_orders as draw_orders
from perceiver_stream.models.rvm.network import mask_of as mask_of
from perceiver_stream.models.rvm.network import position_table as position_table
from perceiver_stream.models.rvm.variants import FAMILY as FAMILY
