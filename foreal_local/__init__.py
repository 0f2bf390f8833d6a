"""FoReaL-Decoding (arXiv 2506.06998) for GGUF models: a leader and a draft write one response."""

__version__ = "0.1.0"
