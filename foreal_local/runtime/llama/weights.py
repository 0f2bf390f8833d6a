"""Weights: a GGUF file loaded by llama.cpp."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from pathlib import Path

import llama_cpp

from ...errors import ModelFileError
from ..gguf_file import is_quantised, read_shape, split_parts
from .library import Abort, library, must_avoid_amx, supports_gpu_offload
from .vocabulary import Vocabulary


class Weights:
    """A model file in memory. Several contexts may share it; close it after them.

    path: the file, or the first of its parts
    n_bytes: size of all parts
    shape: what the FLOPs of the model depend on
    vocabulary: its tokens
    n_heads: attention heads of its first layer
    n_ctx_train: tokens of context that it was trained for
    n_swa: tokens of its sliding window; 0: it has none
    needs_marks: the cache cannot be truncated freely (recurrent memory, sliding window); it can return to a position
        that was saved by Context.mark
    avoids_amx: AMX and the repacked kernels are not used, because this build of llama.cpp would crash
    """

    def __init__(
        self,
        path: Path,
        gpu_layers: int = -1,
        verbose: bool = False,
        on_progress: Callable[[float], None] | None = None,
        abort: Abort | None = None,
    ) -> None:
        abort = abort or Abort()
        log = library()
        log.verbose = verbose
        log.errors.clear()
        self.path = path
        self.shape = read_shape(path)  # also tells what is not a GGUF
        self.n_bytes = sum(part.stat().st_size for part in split_parts(path))
        params = llama_cpp.llama_model_default_params()
        params.n_gpu_layers = gpu_layers if gpu_layers >= 0 else 1_000_000
        self.avoids_amx = is_quantised(path) and must_avoid_amx()  # plain weights are not multiplied there
        params.use_extra_bufts = not self.avoids_amx

        def progress(fraction: float, _data: ctypes.c_void_p) -> bool:
            if on_progress is not None:
                on_progress(fraction)
            return not abort.requested

        callback = llama_cpp.llama_progress_callback(progress)
        params.progress_callback = callback
        with abort.held():
            model = llama_cpp.llama_model_load_from_file(os.fsencode(path), params)
        if not model:
            raise ModelFileError(f"llama.cpp cannot load {path}: {log.take_reason()}")
        self.model = model
        self.vocabulary = Vocabulary(model)
        self.n_heads = int(llama_cpp.llama_model_n_head(model))
        self.n_ctx_train = int(llama_cpp.llama_model_n_ctx_train(model))
        self.on_gpu = gpu_layers != 0 and supports_gpu_offload()
        self.n_swa = int(llama_cpp.llama_model_n_swa(model))
        recurrent = llama_cpp.llama_model_is_recurrent(model) or llama_cpp.llama_model_is_hybrid(model)
        self.needs_marks = bool(recurrent or self.n_swa)

    @property
    def chat_template(self) -> str | None:
        """The file's Jinja template, None where it has none."""
        template = llama_cpp.llama_model_chat_template(self.model, None)
        return template.decode("utf-8", "replace") if template else None

    def describe(self) -> str:
        """Architecture, number of parameters and quantization, as llama.cpp names them."""
        buffer = ctypes.create_string_buffer(256)
        llama_cpp.llama_model_desc(self.model, buffer, len(buffer))
        n_parameters = llama_cpp.llama_model_n_params(self.model)
        size = f"{n_parameters / 1e9:.1f} B" if n_parameters >= 1e9 else f"{n_parameters / 1e6:.1f} M"
        return buffer.value.decode("utf-8", "replace").replace("?B", size).replace(" (guessed)", "")

    def close(self) -> None:
        if self.model:
            llama_cpp.llama_model_free(self.model)
            self.model = None
