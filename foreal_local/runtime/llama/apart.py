"""What another process does to try a model: load it, make a small context, read a text, evaluate a few tokens.

Run by trial.py, as a script: `python apart.py MODEL SECONDS`; it ends itself after so long, also where nobody waits for
it any more. Exit code 0 where all went well, CANNOT_LOAD where llama.cpp says
no itself; whatever else ends it is what trial.py wants to know. Imports the bindings without the package around
them, which would take half a second.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import signal
import sys
from types import ModuleType
from typing import Any

CANNOT_LOAD = 64  # not among the codes that systems give to a process that was ended
_N_TOKENS = 2


def _bindings() -> Any:
    """llama_cpp.llama_cpp, without llama_cpp/__init__.py."""
    spec = importlib.util.find_spec("llama_cpp")
    assert spec
    package = ModuleType("llama_cpp")
    package.__path__ = list(spec.submodule_search_locations or [])
    sys.modules["llama_cpp"] = package
    return importlib.import_module("llama_cpp.llama_cpp")


def load(path: str) -> int:
    """Everything that a run does with a model, once and small, on the CPU; the exit code."""
    llama = _bindings()
    log = llama.llama_log_callback(lambda level, text, data: None)
    llama.llama_log_set(log, None)
    llama.llama_backend_init()
    params = llama.llama_model_default_params()
    params.n_gpu_layers, params.use_extra_bufts = 0, False
    model = llama.llama_model_load_from_file(os.fsencode(path), params)
    settings = llama.llama_context_default_params()
    settings.n_ctx, settings.n_batch, settings.n_ubatch, settings.n_seq_max = 64, 8, 8, 1
    settings.n_threads = settings.n_threads_batch = 1
    context = model and llama.llama_init_from_model(model, settings)
    if not context:
        return CANNOT_LOAD
    vocab = llama.llama_model_get_vocab(model)
    ids = (llama.llama_token * 512)()
    for text in (b"a b", b"\n1", bytes(range(1, 256))):
        llama.llama_tokenize(vocab, text, len(text), ids, len(ids), True, True)
    for special in (llama.llama_vocab_bos(vocab), llama.llama_vocab_eos(vocab), 0):
        if special >= 0:
            llama.llama_vocab_get_text(vocab, special)
    for n in (_N_TOKENS, 1):  # a prompt and a token take different ways through the graph
        llama.llama_decode(context, llama.llama_batch_get_one((llama.llama_token * n)(), n))
    llama.llama_free(context)
    llama.llama_model_free(model)
    return 0


if __name__ == "__main__":
    sys.path.pop(0)  # this folder, where there are modules named like anything
    if hasattr(signal, "alarm"):  # its default ends the process, also inside llama.cpp
        signal.alarm(int(sys.argv[2]))
    sys.exit(load(sys.argv[1]))
