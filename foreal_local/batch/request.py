"""What a run over many prompts needs to know: one frozen object, built by a command or by a program."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from ..choice import Measured
from ..config import Generation, Pair, Prompting, Runtime
from ..errors import UsageError
from ..memory.fitting import UNFITTED, Fitting
from ..method.modes import roles_of
from ..method.roles import Role
from ..results import Prompt
from ..storage.checkpoints import Checkpoints
from ..storage.files import same_file

Format = Literal["text", "jsonl"]


@dataclass(frozen=True)
class BatchRequest:
    """A run of foreal-gen, or of another command.

    prompts: what is answered
    settings: of prompts that have none of their own; if they have no seed, the run takes that of the output that it
        resumes, or draws one
    prompting: of prompts that have none of their own
    runtime: how the models run
    parallel: prompts answered at a time
    output: the file that results are written to; None or "-": standard output
    format: text or JSON lines; None: JSON lines in a file, text on standard output
    trace: the file that every decision is written to; None: none is written
    resume: keep what the output has of these prompts and settings, and answer the rest
    checkpoint: a folder for unfinished responses; None: they are not saved
    checkpoint_every: tokens of a response between two savings
    inputs: files that are read, by their names in messages; they must not be written
    color: the leader's words in colour; None: on a terminal
    background: of the terminal, for its colours (palette.py)
    show_reasoning: print the reasoning on standard error
    quiet: no progress and no summary
    summary: report responses that did not end by themselves, and the figures of the run at its end
    limits: what the models are good for, where nobody chose them; a line of the figures
    name: of the command, in its notes
    measured: a setting of both models that prompts in mode auto may be answered with; None: there is none
    loss: percentage points of accuracy that it may lose
    fitting: what is asked whether the models fit, before they are loaded
    """

    prompts: list[Prompt]
    settings: Generation
    prompting: Prompting = field(default_factory=Prompting)
    runtime: Runtime = field(default_factory=Runtime)
    parallel: int = 1
    output: str | None = None
    format: Format | None = None
    trace: str | None = None
    resume: bool = False
    checkpoint: str | None = None
    checkpoint_every: int = Checkpoints.EVERY
    inputs: dict[str, str | None] = field(default_factory=dict)
    color: bool | None = None
    background: str = "auto"
    show_reasoning: bool = False
    quiet: bool = False
    summary: bool = True
    limits: str = ""
    name: str = "foreal-gen"
    measured: Measured | None = None
    loss: float | None = None
    fitting: Fitting = UNFITTED

    def __post_init__(self) -> None:
        if self.output == "-":  # standard output, as JSON lines unless `format` says otherwise
            object.__setattr__(self, "output", None)
            object.__setattr__(self, "format", self.format or "jsonl")
        if self.format is None:
            object.__setattr__(self, "format", "jsonl" if self.output else "text")
        if self.parallel < 1:
            raise UsageError(f"--parallel is {self.parallel}, but must be 1 or more")

    @property
    def roles(self) -> set[Role]:
        """The models that the prompts need."""
        return {role for prompt in self.prompts for role in roles_of((prompt.settings or self.settings).mode)}

    def refuse_one_file_twice(self, pair: Pair) -> None:
        """UsageError where a file that is written has another use too: it would be set aside or mixed up."""
        written = {"--output": self.output, "--trace": self.trace}
        named = {**written, **self.inputs, "--checkpoint": self.checkpoint}
        named |= {"the leader": str(pair.leader.path), "the draft": str(pair.draft.path)}
        for option, path in written.items():
            for other, another in named.items():
                if path and another and other != option and same_file(path, another):
                    raise UsageError(f"{option} and {other} are the same file: {another}")
