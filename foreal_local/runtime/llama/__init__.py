"""llama.cpp behind the model protocol: weights, vocabularies and contexts over its low-level bindings.

The only folder that imports llama_cpp. Knows pointers, batches, return codes and the order of closing, and translates
every failure once. Knows nothing of sentences, roles or flows.

version.py     which llama-cpp-python is needed
library.py     the library's start, its log, what this build can do; Abort stops an evaluation
weights.py     a model file in memory
trial.py       a model with an unusual header, which another process (apart.py) loads first
vocabulary.py  texts and token ids
devices.py     GPUs and their free memory, and what this build can compute on
rpc.py         workers: this machine's devices for others, and others' devices for a model here
placing.py     what a simulated model and its contexts would take
native.py      functions that the bindings leave out
batch.py       rows cut into pieces that fit one evaluation
parameters.py  a plan of a context as llama.cpp's structure
context.py     a KV cache and its evaluations
"""

from ..hardware import wait_briefly
from .version import require_llama_cpp

wait_briefly()  # before llama_cpp is loaded

require_llama_cpp()  # before the modules below look for what another version does not have

from .context import Context, open_context  # noqa: E402
from .devices import Device, avoids_amx, backends, devices  # noqa: E402
from .library import Abort, most_sequences, supports_gpu_offload  # noqa: E402
from .placing import hearing, placed  # noqa: E402
from .rpc import has_rpc, offered, require_rpc, serve_worker  # noqa: E402
from .vocabulary import Vocabulary  # noqa: E402
from .weights import Weights, vocabulary_alone  # noqa: E402

__all__ = [
    "Abort",
    "Context",
    "Device",
    "Vocabulary",
    "Weights",
    "avoids_amx",
    "backends",
    "devices",
    "has_rpc",
    "hearing",
    "most_sequences",
    "offered",
    "open_context",
    "placed",
    "require_rpc",
    "serve_worker",
    "supports_gpu_offload",
    "vocabulary_alone",
]
