"""Depth in parallel: a model's layers as stages that run in parallel, each one tick behind the last."""

from perceiver_stream.execution.devices import DevicePipeline as DevicePipeline
from perceiver_stream.execution.gradients import RULES as RULES
from perceiver_stream.execution.gradients import Rule as Rule
from perceiver_stream.execution.gradients import gradients as gradients
from perceiver_stream.execution.partition import Partition as Partition
from perceiver_stream.execution.partition import partition as partition
from perceiver_stream.execution.pipeline import Pipeline as Pipeline
from perceiver_stream.execution.pipeline import Registers as Registers
from perceiver_stream.utils import moved

__getattr__ = moved.renamed_names(
  __name__,
  {
    "Cut": "execution.partition.Partition",
    "cut": "execution.partition.partition",
  },
)
