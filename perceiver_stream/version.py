"""The version, in one place; checkpoints name the version that wrote them."""

__version__ = "0.1.0"
