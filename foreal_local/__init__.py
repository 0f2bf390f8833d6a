"""FoReaL-Decoding (arXiv 2506.06998) for GGUF models: a leader and a draft write one response.

`load` gives an engine: `load().generate("What is 2 + 3?").answer`. Names are imported when they are first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .chat.conversation import Conversation
    from .config import Generation, Method, Pair, Prompting, Runtime, Sampling
    from .engine import Engine
    from .loading import load
    from .results import Chunk, Prompt, PromptProgress, Result
    from .runtime.messages import TokenIds

__version__ = "0.2.0.dev0"
__all__ = [
    "Chunk",
    "Conversation",
    "Engine",
    "Generation",
    "Method",
    "Pair",
    "Prompt",
    "PromptProgress",
    "Prompting",
    "Result",
    "Runtime",
    "Sampling",
    "TokenIds",
    "load",
]

_MODULES = {
    "chat.conversation": ("Conversation",),
    "config": ("Generation", "Method", "Pair", "Prompting", "Runtime", "Sampling"),
    "engine": ("Engine",),
    "loading": ("load",),
    "results": ("Chunk", "Prompt", "PromptProgress", "Result"),
    "runtime.messages": ("TokenIds",),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, *(name for name in globals() if name.startswith("__"))])
