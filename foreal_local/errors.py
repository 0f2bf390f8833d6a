"""Every error this package raises on purpose, with the exit code a command line ends with.

    ForealError                 1
    ├── UsageError              2   options or input that cannot be used as given
    ├── ModelFileError          2   a model that is missing, is not a GGUF, is torn, or cannot be loaded
    │   └── VocabularyError     2   a leader and a draft that do not share their words
    ├── DownloadError           1   the hub or the network failed
    ├── ContextFullError        1   a conversation with no room for an answer
    ├── SessionError            1   a saved session that cannot be gone on with
    ├── SequenceError           1   one sequence cannot go on; the others can
    └── EvaluationError         1   llama.cpp failed and the context cannot be trusted any more

Ctrl-C is Python's own KeyboardInterrupt (130).
"""

from __future__ import annotations


class ForealError(Exception):
    """What happened, with which value, and what to do, in one line."""

    exit_code = 1


class UsageError(ForealError):
    exit_code = 2


class ModelFileError(ForealError):
    exit_code = 2


class VocabularyError(ModelFileError):
    pass


class DownloadError(ForealError):
    pass


class SessionError(ForealError):
    """`text`: the response that the file held, where that could be read."""

    def __init__(self, message: str, text: str = "") -> None:
        super().__init__(message)
        self.text = text


class ContextFullError(ForealError):
    pass


class SequenceError(ForealError):
    pass


class EvaluationError(ForealError):
    pass
