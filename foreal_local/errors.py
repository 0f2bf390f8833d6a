"""Every error this package raises on purpose, with the exit code a command line ends with.

    ForealError                 1
    ├── UsageError              2   options or input that cannot be used as given
    ├── ModelFileError          2   a model that is missing, is not a GGUF, is torn, or cannot be loaded
    │   └── VocabularyError     2   a leader and a draft that do not share their words
    ├── InstallationError       2   llama-cpp-python is missing, of another version, or broken
    ├── DownloadError           1   the hub or the network failed
    ├── NotEnoughMemoryError    1   models that need far more memory than is free
    ├── ContextFullError        1   a prompt or a conversation without room in the context
    ├── SessionError            1   a saved session that cannot be resumed
    ├── SequenceError           1   one sequence cannot continue; the others can
    ├── WorkerError             1   a machine that lends its memory to a model is not there, or was lost
    └── EvaluationError         1   llama.cpp failed and the context cannot be trusted any more

Ctrl-C is Python's own KeyboardInterrupt (130).
"""

from __future__ import annotations


class ForealError(Exception):
    """The base of all. Its message is one line: what happened, with which value, and what to do."""

    exit_code = 1


class UsageError(ForealError):
    """Options or input that cannot be used as given.

    setting: the name of the setting whose value it is about, where it is one's
    """

    exit_code = 2

    def __init__(self, message: str, setting: str | None = None) -> None:
        super().__init__(message)
        self.setting = setting


class ModelFileError(ForealError):
    """A model that is missing, is not a GGUF, is torn, or cannot be loaded."""

    exit_code = 2


class VocabularyError(ModelFileError):
    """A leader and a draft that do not share their words."""


class InstallationError(ForealError):
    """llama-cpp-python is missing, of a version that this package does not work with, or broken."""

    exit_code = 2


class DownloadError(ForealError):
    """The hub or the network failed."""


class NotEnoughMemoryError(ForealError):
    """Models that need far more memory than is free."""


class SessionError(ForealError):
    """A saved session that cannot be resumed.

    text: the response that was in it, where that could be read
    """

    def __init__(self, message: str, text: str = "") -> None:
        super().__init__(message)
        self.text = text


class ContextFullError(ForealError):
    """A prompt without room in the context, or a conversation without room for an answer.

    n_tokens: so many the prompt has at least, where it was not read
    """

    def __init__(self, message: str, n_tokens: int = 0) -> None:
        super().__init__(message)
        self.n_tokens = n_tokens


class SequenceError(ForealError):
    """One sequence cannot continue; the others can."""


class EvaluationError(ForealError):
    """llama.cpp failed, and the context cannot be trusted any more."""


class WorkerError(ForealError):
    """A machine that lends its memory and compute to a model cannot be reached, or was lost while the model ran."""
