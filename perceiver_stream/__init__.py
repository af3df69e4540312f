"""Recurrent Perceiver models that watch one continuous stream and learn from it as it comes."""

from perceiver_stream.version import __version__ as __version__
