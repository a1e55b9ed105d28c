"""Turn a Django site into an LTI tool provider."""

__version__ = "0.1.0"
