"""The tables, one file each; this list is the only other place that knows them."""

from perceiver_stream.lab.tables import cadence, momentum
from perceiver_stream.lab.tables.base import Table as Table

TABLES = {module.__name__.rpartition(".")[2]: module.TABLE for module in (momentum, cadence)}
