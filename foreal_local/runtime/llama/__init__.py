"""llama.cpp behind the model protocol: weights, vocabularies and contexts over its low-level bindings.

The only folder that imports llama_cpp. Knows pointers, batches, return codes and the order of closing, and translates
every failure once. Knows nothing of sentences, roles or flows.

library.py     the library's start, its log, what this build can do; Abort stops an evaluation
weights.py     a model file in memory
trial.py       a model with an unusual header, which another process (apart.py) loads first
vocabulary.py  texts and token ids
batch.py       rows cut into pieces that fit one evaluation
context.py     a KV cache and its evaluations
"""

from .context import Context, open_context
from .library import Abort, supports_gpu_offload
from .vocabulary import Vocabulary
from .weights import Weights, vocabulary_alone

__all__ = [
    "Abort",
    "Context",
    "Vocabulary",
    "Weights",
    "open_context",
    "supports_gpu_offload",
    "vocabulary_alone",
]
