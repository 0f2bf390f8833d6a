"""Weights: a GGUF file loaded by llama.cpp."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import llama_cpp

from ...errors import ModelFileError
from ...method.reasoning import ReasoningTags
from ..chat_template import ChatTemplate
from ..gguf_check import has_tokenizer
from ..gguf_file import is_quantised, model_file, read_shape, stamp_of
from ..tags import own_tags
from .library import Abort, library, must_avoid_amx, supports_gpu_offload
from .rpc import devices_with
from .trial import try_loading
from .vocabulary import Vocabulary

_DESCRIPTION = re.compile(r"(\S+) \S+(?: \((?:Scout|Maverick)\))?(?: \(guessed\))? (.+)")
"""llama.cpp's: architecture, its own name of a size, and quantization."""

_FEWEST_BYTES_PADDED = 32 * 1024 * 1024  # of weights; smaller ones take no time worth filling up for


def _params(gpu_layers: int, avoids_amx: bool, simulated: bool, devices: Any = None) -> Any:
    params = llama_cpp.llama_model_default_params()
    if simulated:
        params.no_alloc, params.load_mode = True, llama_cpp.LLAMA_LOAD_MODE_NONE
    if devices is not None:
        params.devices = ctypes.addressof(devices)
    params.n_gpu_layers = gpu_layers if gpu_layers >= 0 else 1_000_000
    params.use_extra_bufts = not avoids_amx
    return params


def _load(path: Path, params: Any, on_progress: Callable[[float], None] | None, abort: Abort) -> Any:
    """llama.cpp's model; None where it cannot load the file, or was told to stop."""

    def progress(fraction: float, _data: ctypes.c_void_p) -> bool:
        if on_progress is not None:
            on_progress(fraction)
        return not abort.requested

    callback = llama_cpp.llama_progress_callback(progress)
    params.progress_callback = callback
    with abort.held():
        return llama_cpp.llama_model_load_from_file(os.fsencode(path), params)


class Weights:
    """A model file in memory. Several contexts may share it; close it after them.

    simulated: llama.cpp allocates nothing, for this and for its contexts, and logs what it would take
    path: the file, or one of its parts
    n_bytes: size of all parts
    shape: what the FLOPs of the model depend on
    vocabulary: its tokens
    n_heads: attention heads of its first layer
    n_ctx_train: tokens of context that it was trained for
    n_swa: tokens of its sliding window; 0: it has none
    needs_marks: the cache cannot be truncated freely (recurrent memory, sliding window); it can return to a position
        that was saved by Context.mark
    has_workers: its layers lie on other machines; on_gpu means a GPU of this one
    avoids_amx: AMX and the repacked kernels are not used, because this build of llama.cpp would crash
    """

    def __init__(
        self,
        path: Path,
        gpu_layers: int = -1,
        verbose: bool = False,
        on_progress: Callable[[float], None] | None = None,
        abort: Abort | None = None,
        simulated: bool = False,
        endpoints: Sequence[str] = (),
    ) -> None:
        """`endpoints`: workers that its layers lie on. llama.cpp ends the process that loses one: only a child of
        remote/ has any."""
        abort, log = abort or Abort(), library()
        log.verbose = verbose
        log.errors.clear()
        file, stamp = model_file(path), stamp_of(path)  # tells what is not a GGUF, or a damaged one
        if not has_tokenizer(file.headers[0]):
            raise ModelFileError(f"{path} has no tokenizer: convert the model again, with its tokenizer's files")
        self.path, self.shape, self.n_bytes = path, read_shape(path), file.n_bytes
        with abort.held():
            if not simulated:
                try_loading(path)
        self.avoids_amx = is_quantised(path) and must_avoid_amx()  # plain weights are not multiplied there
        self.has_workers = bool(endpoints)
        devices = devices_with(endpoints) if endpoints else None
        params = _params(gpu_layers, self.avoids_amx, simulated, devices)
        model = _load(file.parts[0], params, on_progress, abort)
        if model and stamp_of(path) != stamp:
            llama_cpp.llama_model_free(model)
            raise ModelFileError(f"{path} changed while it was loaded: run it again when it is complete")
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
    def gains_by_padding(self) -> bool:
        """Whether short evaluations may be filled up, and save time so."""
        return (self.on_gpu or self.n_bytes > _FEWEST_BYTES_PADDED) and not self.needs_marks

    @functools.cached_property
    def template(self) -> ChatTemplate | None:
        """The file's chat template; None where it has none."""
        source = llama_cpp.llama_model_chat_template(self.model, None)
        if not source:
            return None
        vocabulary = self.vocabulary
        return ChatTemplate(source.decode("utf-8", "replace"), vocabulary.bos, vocabulary.eos, self.path.name)

    @functools.cached_property
    def tags(self) -> ReasoningTags | None:
        """The tags around its reasoning; None: no known ones."""
        return own_tags(self.template, self.vocabulary)

    def describe(self) -> str:
        """Architecture, number of parameters and quantization. llama.cpp's own name of the size is left out: it goes
        by the number of layers, and calls a model of half a billion parameters "1B"."""
        buffer = ctypes.create_string_buffer(256)
        llama_cpp.llama_model_desc(self.model, buffer, len(buffer))
        text = buffer.value.decode("utf-8", "replace")
        n = llama_cpp.llama_model_n_params(self.model)
        size = f"{n / 1e9:.1f} B" if n >= 1e9 else f"{n / 1e6:.1f} M"
        match = _DESCRIPTION.fullmatch(text)
        return f"{match[1]} {size} {match[2]}" if match else f"{text}, {size}"

    def close(self) -> None:
        if self.model:
            llama_cpp.llama_model_free(self.model)
            self.model = None


@contextlib.contextmanager
def vocabulary_alone(path: Path) -> Iterator[Vocabulary]:
    """A file's vocabulary without its weights, which takes no time and no memory to speak of."""
    log, file = library(), model_file(path)
    try_loading(path)
    params = llama_cpp.llama_model_default_params()
    params.vocab_only = True
    model = llama_cpp.llama_model_load_from_file(os.fsencode(file.parts[0]), params)
    if not model:
        raise ModelFileError(f"llama.cpp cannot load {path}: {log.take_reason()}")
    try:
        yield Vocabulary(model)
    finally:
        llama_cpp.llama_model_free(model)
