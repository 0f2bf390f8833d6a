"""RemoteWeights: a model whose layers lie on workers, loaded by a child; its vocabulary is here.

When the child is lost, the next evaluation starts another one, if the workers answer.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Sequence
from typing import Any

from ...config import ModelSettings, Runtime
from ...errors import WorkerError
from ...method.reasoning import ReasoningTags
from ...method.roles import Role
from .. import llama
from ..chat_template import ChatTemplate
from ..gguf_file import model_file, read_shape
from ..tags import own_tags
from .addresses import Address, require_answer
from .host import ContextFacts, Facts
from .process import Child

HOST = "foreal_local.runtime.remote.host:LlamaHost"
"""What a child runs."""


class RemoteWeights:
    """A model in a child; several contexts may share it. Close it after them. Attributes as llama.Weights has them.

    role, workers: whose layers lie where
    generation: how many children there were before this one; what an earlier one had cached is gone
    """

    has_workers = True
    on_gpu = False

    def __init__(
        self,
        role: Role,
        settings: ModelSettings,
        workers: Sequence[Address],
        runtime: Runtime,
        abort: llama.Abort,
        on_progress: Callable[[float], None] | None = None,
    ) -> None:
        self.role, self.workers, self.generation = role, tuple(workers), 0
        self.path, self.gpu_layers = settings.path, settings.gpu_layers
        self._runtime, self._abort = runtime, abort
        self.shape, self.n_bytes = read_shape(self.path), model_file(self.path).n_bytes
        self._contexts: list[tuple[Any, ...]] = []  # what each was opened with
        self._lock = threading.RLock()  # of another child's start
        self._stack = contextlib.ExitStack()
        self._child: Child | None = None
        try:
            self._vocabulary = self._stack.enter_context(llama.vocabulary_alone(self.path))
            with abort.held():
                facts = self._facts = self._load(on_progress)
        except BaseException:
            self.close()
            raise
        self.n_heads, self.n_ctx_train, self.n_swa = facts.n_heads, facts.n_ctx_train, facts.n_swa
        self.needs_marks, self.avoids_amx = facts.needs_marks, facts.avoids_amx

    def _load(self, on_progress: Callable[[float], None] | None = None) -> Facts:
        """Start a child, and load the model in it. WorkerError where a worker is lost meanwhile."""
        verbose = self._runtime.verbose
        self._child = Child(HOST, self._runtime.rpc_timeout, verbose)
        arguments = (str(self.path), self.gpu_layers, verbose, [worker.endpoint for worker in self.workers])
        facts = self._asked("load", arguments, on_progress)
        assert isinstance(facts, Facts)
        return facts

    # ---------------------------------------------------------------- what contexts ask
    @property
    def is_lost(self) -> bool:
        return self._child is None or self._child.is_lost

    def open_context(self, *arguments: Any) -> tuple[int, ContextFacts]:
        """One more context in the child: its number, and what it is like."""
        with self._abort.held():
            facts = self._asked("open_context", arguments)
        self._contexts.append(arguments)
        return len(self._contexts) - 1, facts

    def ask(self, number: int, method: str, arguments: tuple[Any, ...], stops: bool = True) -> Any:
        """What a context is asked for. WorkerError where the child is lost, or was.

        stops: Ctrl-C ends it
        """
        return self._asked("of_context", (number, method, arguments), stops=stops)

    def revive(self) -> None:
        """Another child in place of one that is lost, with the same contexts, all empty. WorkerError where a worker
        does not answer."""
        with self._lock:
            if not self.is_lost:
                return
            self._end_child()
            for worker in self.workers:
                require_answer(worker, self.role)
            try:
                self._load()
                for arguments in self._contexts:
                    self._asked("open_context", arguments)
            except BaseException:  # half of a child is none
                self._end_child()
                raise
            self.generation += 1

    def _asked(
        self,
        method: str,
        arguments: tuple[Any, ...],
        on_progress: Callable[[float], None] | None = None,
        stops: bool = True,
    ) -> Any:
        assert self._child
        try:
            stopping = self._abort if stops else None
            return self._child.ask(method, *arguments, stopping=stopping, on_progress=on_progress)
        except WorkerError as error:
            raise self._told(str(error)) from None

    def _told(self, reason: str) -> WorkerError:
        """The error of a child that is lost: which worker does not answer any more, and what to do."""
        silent = []
        for worker in self.workers:
            try:
                require_answer(worker, self.role, 1.0)
            except WorkerError:
                silent.append(str(worker))
        on = ", ".join(map(str, self.workers))
        who = f"the worker {' and '.join(silent)} does not answer" if silent else "its workers answer"
        todo = "start it again" if silent else "see what they print"
        return WorkerError(
            f"the {self.role}, whose layers lie on {on}, was lost: {reason}; {who}: {todo}, then ask again "
            "(a file of prompts goes on with --resume)"
        )

    # ---------------------------------------------------------------- what a pair asks
    @property
    def vocabulary(self) -> llama.Vocabulary:
        return self._vocabulary

    @functools.cached_property
    def template(self) -> ChatTemplate | None:
        """The file's chat template; None where it has none."""
        source = self._facts.template
        return ChatTemplate(source, self.vocabulary.bos, self.vocabulary.eos, self.path.name) if source else None

    @functools.cached_property
    def tags(self) -> ReasoningTags | None:
        """The tags around its reasoning; None: no known ones."""
        return own_tags(self.template, self.vocabulary)

    def describe(self) -> str:
        """As llama.Weights says it."""
        return self._facts.description

    def _end_child(self) -> None:
        if self._child:
            self._child.close()
            self._child = None

    def close(self) -> None:
        self._end_child()
        self._stack.close()
