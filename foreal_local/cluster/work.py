"""What travels between the driver and the actors: what is to be done, and what was. Everything here can be pickled."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from ..batch.totals import Totals
from ..config import Generation, Pair, Prompting, Runtime
from ..hub import bundled_dir
from ..method.ledger import Cost
from ..method.plan import UNMEASURED_PLAN, Plan
from ..method.roles import Role
from ..results import Prompt
from ..storage.checkpoints import Checkpoints


@dataclass(frozen=True)
class Models:
    """Two models by names that mean the same on every machine.

    leader, draft: a file, a name on the hub, or a bundled file (BUNDLED and its name)
    gpu_layers: of each
    name: of the pair
    offline: nothing is downloaded
    """

    leader: str
    draft: str
    gpu_layers: tuple[int, int] = (-1, -1)
    name: str | None = None
    offline: bool = False

    def resolve(self) -> Pair:
        """The files on this machine, fetched where they are named by the hub: once for all its actors, as one waits
        while another downloads."""
        from ..loading import resolve_pair

        leader, draft = (_here(name) for name in (self.leader, self.draft))
        return resolve_pair(
            leader, draft, offline=self.offline, progress=False, gpu_layers=self.gpu_layers, name=self.name
        )


BUNDLED = "bundled:"


def named_anywhere(spec: str) -> str:
    """A model's name, as another machine understands it."""
    path = Path(os.path.expanduser(spec))  # noqa: PTH111  (a hub name is no path)
    if not path.is_file():
        return spec
    if path.resolve().parent == bundled_dir().resolve():
        return f"{BUNDLED}{path.name}"
    return str(path.absolute())


def _here(name: str) -> str:
    return str(bundled_dir() / name.removeprefix(BUNDLED)) if name.startswith(BUNDLED) else name


@dataclass(frozen=True)
class Work:
    """What an actor needs to know before its first prompt.

    version: of this package, which all machines must have
    models: by their names
    fingerprints: of their files
    settings, prompting: of prompts that have none of their own; the settings have a seed
    runtime: how the models run, with the actor's threads
    roles: the models that are loaded
    parallel: prompts answered at a time
    fit: what does not fit the machine's memory is changed
    first: the run's first prompts, for what all prompts begin with
    checkpoint: a folder that all machines share; None: responses are not saved
    checkpoint_every: tokens between two savings
    """

    version: str
    models: Models
    fingerprints: dict[Role, str]
    settings: Generation
    prompting: Prompting
    runtime: Runtime
    roles: set[Role]
    parallel: int = 1
    fit: bool = True
    first: tuple[Prompt, ...] = ()
    checkpoint: str | None = None
    checkpoint_every: int = Checkpoints.EVERY


@dataclass(frozen=True)
class Answer:
    """One finished prompt.

    index, id: the prompt's
    settings_hash: of its record
    line: its record
    ending: how it was ended before the models ended it, for the user; None where they did
    failed: its record has an error
    full: its context was full
    """

    index: int
    id: str
    settings_hash: str
    line: str
    ending: str | None = None
    failed: bool = False
    full: bool = False


@dataclass(frozen=True)
class Answered:
    """What comes back for the prompts of a task.

    answers: of its prompts
    totals: sums over them
    actor: who answered
    cost: the work of that actor so far
    plan: its
    warnings, prompt_notes: its lines for the user
    error: why it cannot answer anything, and the exit code; None: it can
    """

    answers: list[Answer] = field(default_factory=list)
    totals: Totals = field(default_factory=Totals)
    actor: str = ""
    cost: dict[Role, Cost] = field(default_factory=dict)
    plan: Plan = UNMEASURED_PLAN
    warnings: list[str] = field(default_factory=list)
    prompt_notes: list[str] = field(default_factory=list)
    error: tuple[str, int] | None = None
