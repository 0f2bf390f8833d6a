"""From names of models to an engine that is ready: `foreal_local.load`.

Knows how models and pairs are named (hub.py, pairs.py) and which settings there are; not what is in the files.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .by_name import checked
from .config import (
    OF_A_RESPONSE,
    FilePath,
    Generation,
    ModelSettings,
    Pair,
    Prompting,
    Runtime,
    generation_of,
    names_of,
    prompting_of,
    runtime_of,
)
from .errors import UsageError
from .hub import resolve_model
from .hub_names import HOW_TO_NAME
from .memory.fitting import fitting
from .method.modes import roles_of
from .method.roles import Role
from .pairs import DEFAULT_PAIR, PairEntry, find_pair, load_pairs

if TYPE_CHECKING:
    from .engine import Engine

_SETTINGS = [*names_of(Runtime), *OF_A_RESPONSE]
_ARGUMENTS = ("parallel", "roles", "offline", "leader_gpu_layers", "draft_gpu_layers", "fit", "settings", "prompting")
_LOOKS_LIKE_A_FILE = re.compile(r"[/\\]|\.gguf$", re.IGNORECASE)


def load(
    leader: FilePath | None = None,
    draft: FilePath | None = None,
    *,
    ctx_size: int | None = None,
    threads: int | None = None,
    parallel: int = 1,
    roles: Iterable[Role | str] | None = None,
    offline: bool = False,
    leader_gpu_layers: int = -1,
    draft_gpu_layers: int = -1,
    fit: bool = True,
    settings: Generation | None = None,
    prompting: Prompting | None = None,
    **by_name: Any,
) -> Engine:
    """An engine that is ready to answer. Close it at the end, or use it in a `with`.

    leader, draft: the models, each a .gguf file or a name on the hub (owner/repo[:quant]); None of both: the bundled
        pair. A leader alone may be a pair's name ("qwen3-8b"), whose settings become the engine's. Any other model
        alone writes everything itself, whatever the default mode; mode= says otherwise
    ctx_size: tokens of each prompt with its response; None: what both models were trained for, at most 8192
    threads: CPU threads; None: one for each core
    parallel: prompts that are answered at a time
    roles: the models that are loaded, "leader", "draft" or both; None: both, or the only one that is named
    offline: download nothing
    leader_gpu_layers, draft_gpu_layers: layers on the GPU; -1: all
    fit: where memory is short, what is not given (the context, the caches' types, layers) becomes smaller, and a
        UserWarning says so; False: all is loaded as it is
    settings, prompting: what prompts are answered with; None: the pair's, or the defaults
    by_name: single settings by their names in config.py: more of Runtime (kv_type_k="q8_0",
        leader_rpc="192.168.1.20:50052" for layers on another machine), and those of a response
        (temp=0, system="Be brief."), which go before `settings`

    UsageError for an unknown pair or setting, ModelFileError for an unusable file, DownloadError without the hub,
    NotEnoughMemoryError where nothing would fit.
    """
    from .engine import Engine

    entry, alone = _named(leader, draft)
    given = checked({"ctx_size": ctx_size, "threads": threads} | by_name, _SETTINGS, "load", _ARGUMENTS)
    chosen = settings is not None and (alone is None or settings.mode != Generation().mode)
    has_mode = chosen or "mode" in given or "mode" in entry.settings
    settings = generation_of(given, settings or generation_of(entry.settings))
    prompting = prompting_of(given, prompting or prompting_of(entry.settings))
    wanted = _roles(roles, alone, settings.mode if has_mode else None)
    settings = settings if has_mode or len(wanted) > 1 else replace(settings, mode=str(wanted[0]))
    layers = leader_gpu_layers, draft_gpu_layers
    pair = resolve_pair(entry.leader, entry.draft, offline=offline, gpu_layers=layers, name=entry.name)
    pair, runtime = fitting(fit, _warn)(pair, runtime_of(given), n_slots=parallel, roles=wanted)
    return Engine(pair, settings=settings, prompting=prompting, runtime=runtime, n_slots=parallel, roles=wanted)


def _warn(line: str) -> None:
    """A note on how a pair is fitted, as a warning of the line that calls `load`."""
    warnings.warn(line.removeprefix("warning: "), stacklevel=4)


def resolve_pair(
    leader: str,
    draft: str,
    *,
    offline: bool,
    progress: bool = True,
    gpu_layers: tuple[int, int] = (-1, -1),
    name: str | None = None,
) -> Pair:
    """The files of two models, named as in hub.resolve_model; downloaded where they are not here."""
    both = dict.fromkeys((leader, draft))  # the same name is looked up once
    paths = {model: resolve_model(model, offline=offline, progress=progress) for model in both}
    models = [ModelSettings(paths[model], n) for model, n in zip((leader, draft), gpu_layers, strict=True)]
    return Pair(models[0], models[1], name or None)


def _named(leader: FilePath | None, draft: FilePath | None) -> tuple[PairEntry, Role | None]:
    """The two models, and which of them was named where it was only one model."""
    if leader is None and draft is None:
        return find_pair(DEFAULT_PAIR), None
    if draft is None and isinstance(leader, str) and _is_pair(leader):
        return find_pair(leader), None
    one = Role.LEADER if draft is None else Role.DRAFT if leader is None else None
    first, second = (os.fspath(model) for model in (leader or draft or "", draft or leader or ""))
    return PairEntry("", first, second), one


def _is_pair(name: str) -> bool:
    """Whether a text names a pair, and not a model; UsageError for a word that names neither."""
    if _LOOKS_LIKE_A_FILE.search(name):
        return False
    if name in load_pairs():
        return True
    if Path(name).is_file():
        return False
    try:
        find_pair(name)
    except UsageError as error:
        raise UsageError(f"{error}; for a model of your own, {HOW_TO_NAME}") from None
    return True


def _roles(roles: Iterable[Role | str] | None, alone: Role | None, mode: str | None) -> list[Role]:
    """The models to load: those that were asked for; of a model alone those that the mode needs, if there is one."""
    if roles is None:
        return list(Role) if alone is None else [alone] if mode is None else list(roles_of(mode))
    names = {str(role) for role in ([roles] if isinstance(roles, str) else roles)}
    if not names or names - {str(role) for role in Role}:
        raise UsageError(f"roles is {sorted(names)}, but must be 'leader', 'draft' or both")
    return [role for role in Role if str(role) in names]
