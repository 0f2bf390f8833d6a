"""What goes into the engine and what comes out: prompts, tokens as they are written, finished results.

A Result's `as_dict` is the result line of design.md.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from .config import Generation, Method, Prompting, Sampling, in_force, names_of
from .errors import UsageError
from .flops import Flops, count_flops
from .method.ledger import Cost, Shape
from .method.modes import MODES
from .method.plan import UNMEASURED_PLAN, Plan
from .method.reasoning import ReasoningTags, ends_inside, split_reasoning
from .method.roles import Role
from .method.sequence import Sequence
from .method.tokens import FinishReason, Likelihood, Token
from .runtime.messages import Messages, PromptContent, TokenIds, as_messages


@dataclass(frozen=True)
class Prompt:
    """One thing to answer.

    content: a text (one user message), a list of messages, whose contents may be lists of text parts, or TokenIds
    id: a name for it; None: its index
    settings: None: the run's
    index: its place among the run's prompts, None: by order; its random numbers come from the seed and the index, so
        that prompts that share both share them
    prompting: None: the run's
    where: the file and the line that it comes from, for messages; "": none
    extra: whatever else belongs to it; its record has it too
    """

    content: PromptContent
    id: str | None = None
    settings: Generation | None = None
    index: int | None = None
    prompting: Prompting | None = None
    where: str = ""
    extra: dict[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if not isinstance(self.content, (str, TokenIds)):
            object.__setattr__(self, "content", as_messages(self.content))


Content = Prompt | str | Messages | TokenIds
"""What can be asked: a text, a list of messages, tokens, or any of these as a Prompt."""
Contents = Iterable[Content]


def as_prompt(content: Content) -> Prompt:
    """UsageError for anything else."""
    if isinstance(content, Prompt):
        return content
    if not isinstance(content, (str, TokenIds)) and not _is_messages(content):
        raise UsageError(f"a prompt is a text, a list of messages or a Prompt, not {content!r}")
    return Prompt(content)


def as_prompts(contents: Content | Contents) -> tuple[list[Prompt], bool]:
    """The prompts, each with an index, and whether there may be several: one text, or one list of messages, is a prompt
    by itself."""
    several = (
        isinstance(contents, Iterable)
        and not isinstance(contents, (str, dict, TokenIds))
        and not _is_messages(contents)
    )
    prompts = [as_prompt(content) for content in (contents if several else [contents])]  # type: ignore
    return [replace(p, index=i) if p.index is None else p for i, p in enumerate(prompts)], several


def in_order(results: list[Result], prompts: list[Prompt]) -> list[Result]:
    """The results of these prompts, in the prompts' order."""
    place = {id(prompt): i for i, prompt in enumerate(prompts)}
    return sorted(results, key=lambda result: place[id(result.submission.prompt)])


def _is_messages(content: object) -> bool:
    return isinstance(content, list) and bool(content) and all(isinstance(each, dict) for each in content)


def with_seed(settings: Generation) -> Generation:
    """The settings with a seed: their own, or one drawn now."""
    return settings if settings.seed is not None else replace(settings, seed=secrets.randbits(31))


@dataclass(frozen=True)
class PromptProgress:
    """How far all models that read a prompt have come, in tokens of that prompt. `id` and `index` are the prompt's."""

    index: int
    id: str
    n_done: int
    n_all: int


@dataclass(slots=True)
class Chunk:
    """Tokens of one response as they are written; their texts joined are the response's text.

    index, id: the prompt's
    tokens: each with its text and its author
    tags: what stands around the response's reasoning
    """

    index: int
    id: str
    tokens: list[Token]
    tags: ReasoningTags

    @property
    def starts_thinking(self) -> bool:
        """Whether the response starts inside the reasoning."""
        return self.tags.opened

    @property
    def text(self) -> str:
        return "".join(token.text for token in self.tokens)


def _asked(content: PromptContent) -> dict[str, Any]:
    """A prompt in a record."""
    if isinstance(content, TokenIds):
        return {"prompt_ids": list(content)}
    return {"prompt" if isinstance(content, str) else "messages": content}


def _likelihood(token: int, likelihood: Likelihood | None, text: str | None = None) -> dict[str, Any]:
    """Of one token in a record: `top` has pairs of an id and a logarithm."""
    found: dict[str, Any] = {"id": token} | ({} if text is None else {"text": text})
    top = [] if likelihood is None else [[each, round(logprob, 6)] for each, logprob in likelihood.top]
    return found | {"logprob": likelihood and round(likelihood.logprob, 6), "top": top}


@dataclass(frozen=True)
class Submission:
    """A prompt with what it is answered with.

    prompt: as it was given
    settings_hash: of everything that the response follows from but its index
    ctx_size: tokens of its context
    plan: how it was decided what is proposed, and who writes in mode auto
    now: the time that its chat templates were told; None: they ask for none
    """

    prompt: Prompt
    settings_hash: str
    ctx_size: int
    plan: Plan = UNMEASURED_PLAN
    now: str | None = None


@dataclass(frozen=True)
class Result:
    """A finished response.

    submission: what was asked
    sequence: the tokens with their authors
    flops: what it took
    text: all of it
    reasoning, answer: its parts
    seconds: wall clock while it was written
    """

    submission: Submission
    sequence: Sequence
    flops: Flops
    text: str
    reasoning: str
    answer: str
    seconds: float

    @classmethod
    def of(cls, submission: Submission, sequence: Sequence, shapes: dict[Role, Shape]) -> Result:
        text = sequence.text
        reasoning, answer = split_reasoning(text, sequence.tags)
        return cls(submission, sequence, count_flops(sequence, shapes), text, reasoning, answer, sequence.seconds)

    @property
    def prompt(self) -> PromptContent:
        return self.submission.prompt.content

    @property
    def starts_thinking(self) -> bool:
        """Whether the prompt opens the reasoning."""
        return self.sequence.tags.opened

    @property
    def ends_inside_reasoning(self) -> bool:
        return ends_inside(self.text, self.reasoning, self.answer)

    @property
    def id(self) -> str:
        return self.sequence.id

    @property
    def index(self) -> int:
        return self.sequence.index

    @property
    def tokens(self) -> list[Token]:
        return self.sequence.tokens

    @property
    def finish_reason(self) -> FinishReason:
        assert self.sequence.finish_reason is not None
        return self.sequence.finish_reason

    @property
    def stopped_by(self) -> str | None:
        """The stop text that ended the response."""
        return self.sequence.stopped_by

    @property
    def error(self) -> str | None:
        return self.sequence.error

    @property
    def cost(self) -> dict[Role, Cost]:
        return self.sequence.cost

    def as_dict(self) -> dict[str, Any]:
        """The record, its keys in the order of design.md."""
        sequence = self.sequence
        n_tokens = len(sequence.tokens)
        prompt_view = sequence.views.get(Role.LEADER) or sequence.views.get(Role.DRAFT)
        return {
            "id": self.id,
            "index": self.index,
            **_asked(self.prompt),
            **({"extra": self.submission.prompt.extra} if self.submission.prompt.extra else {}),
            "text": self.text,
            "reasoning": self.reasoning,
            "answer": self.answer,
            "finish_reason": str(self.finish_reason),
            "stopped_by": self.stopped_by,
            "error": self.error,
            **self._settings(),
            **({"now": self.submission.now} if self.submission.now else {}),
            "ctx_size": self.submission.ctx_size,
            "settings_hash": self.submission.settings_hash,
            "usage": {
                "prompt_tokens": prompt_view.n_prompt if prompt_view else 0,
                "completion_tokens": n_tokens,
                "leader_tokens": sequence.n_written(Role.LEADER),
                "draft_tokens": sequence.n_written(Role.DRAFT),
                **({"given_tokens": sequence.n_inserted} if sequence.n_inserted else {}),
            },
            "sentences": {
                "total": sequence.n_sentences,
                "led": sequence.n_led,
                "handoffs": sequence.n_handoffs,
            },
            **self._ahead_and_back(),
            **self._likelihoods(),
            "cost": {
                **{str(role): sequence.cost[role].as_dict() for role in Role},
                "flops_total": self.flops.total,
                "flops_generation": self.flops.generation,
                "flops_leader_only": self.flops.leader_only,
                "flops_leader_only_generation": self.flops.leader_only_generation,
            },
            "seconds": round(self.seconds, 6),
            "tokens_per_second": round(n_tokens / self.seconds, 3) if self.seconds else 0.0,
        }

    def _ahead_and_back(self) -> dict[str, Any]:
        """How mode auto has chosen, what was proposed, and what was reviewed, in modes and with settings that do so."""
        sequence, plan = self.sequence, self.submission.plan
        found: dict[str, Any] = {"auto": plan.choice} if plan.choice else {}
        if MODES[sequence.settings.mode].speculates:
            found["speculation"] = {"proposed": sequence.n_proposed, "accepted": sequence.n_accepted}
            if plan.decides(sequence.settings):
                found["speculation"]["plan"] = plan.as_dict()
        if sequence.rewrites:
            found["reviews"] = {
                "reviewed": sequence.n_reviewed,
                "rewritten": sequence.n_rewritten,
                "dropped": sequence.n_dropped,
            }
        return found

    def _likelihoods(self) -> dict[str, Any]:
        """How likely the models held the tokens, where that was asked for; None for those that nobody chose."""
        sequence, found = self.sequence, {}
        if sequence.settings.logprobs is not None:
            found["logprobs"] = [_likelihood(token.id, token.likelihood, token.text) for token in sequence.tokens]
        if sequence.settings.prompt_logprobs is not None and sequence.views:
            view = sequence.views.get(Role.LEADER) or sequence.views[Role.DRAFT]
            pairs = zip(view.ids[1 : view.n_prompt], sequence.prompt_likelihoods, strict=False)
            found["prompt_logprobs"] = [_likelihood(token, likelihood) for token, likelihood in pairs]
        return found

    def _settings(self) -> dict[str, Any]:
        """Every setting in force, under its field's name."""
        values = in_force(self.sequence.settings)
        names = ["seed", "mode", *names_of(Method), *names_of(Sampling), *names_of(Generation)]
        found = {name: values[name] for name in names if name in values}
        return found | {"stop": list(values["stop"])}


Event = PromptProgress | Chunk | Result
"""What happens to a prompt, in order: it is read, it is written, it is finished."""
