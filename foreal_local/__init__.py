"""FoReaL-Decoding (arXiv 2506.06998) for GGUF models: a strong leader and a cheap draft write one response."""

__version__ = "0.1.0"
