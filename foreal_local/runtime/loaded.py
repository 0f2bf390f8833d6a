"""A pair of models in memory: weights, contexts in lanes, vocabularies and templates; prompts as their tokens.

Knows what is loaded and how it is planned; writes nothing (engine.py does).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from datetime import datetime

from ..config import Generation, Pair, Prompting, Runtime, with_time
from ..errors import UsageError
from ..method.borders import spelled
from ..method.plan import UNMEASURED_PLAN, Plan
from ..method.roles import Role
from ..method.sequence import Sequence
from ..method.tokens import Spelled
from ..method.view import n_common
from . import llama
from .gguf_file import asks_for_time, fingerprint, n_ctx_train, read_shape
from .interrupt import watching_interrupts
from .messages import Messages, PromptContent, TokenIds
from .model import Identity
from .opening import AnyWeights, Lanes, Opening, require_slots
from .pair_tokens import PairTokens
from .remote.addresses import WARNING, Address, require_answer, workers_of
from .remote.weights import RemoteWeights
from .speed import ENOUGH, SIZES, Sizes, measure
from .tags import unknown_tag
from .text import PromptTokens, encode_prompt, prompt_of_ids
from .vocabulary import RoleVocabulary

Progress = Callable[[Role, float], None]
_ANY_TOKEN = 20
"""An id that every vocabulary has, to measure with: how long an evaluation takes does not hang on it."""


class LoadedPair:
    """The models of a pair, for at most `n_slots` sequences at a time. Owns the weights and the contexts.

    pair, runtime, n_slots, roles: as they were given; only these roles' models are loaded
    workers: those that a role's layers lie on, of roles that have any
    lanes: each a context for each role, driven by one thread at a time
    abort: the flag that stops evaluations
    tokens: the vocabularies of both roles
    shapes: what FLOPs depend on, of both models
    fingerprints: what tells each model from others
    identity: what saved states belong to
    opened: when, in ISO's format; what templates take for the time
    ctx_size: tokens of one sequence's context
    warnings: lines for the user
    """

    def __init__(
        self,
        pair: Pair,
        *,
        runtime: Runtime | None = None,
        n_slots: int = 1,
        roles: Iterable[Role] = tuple(Role),
        prefix_slot: bool = False,
        on_progress: Progress | None = None,
    ) -> None:
        if n_slots < 1:
            raise UsageError(f"the number of parallel sequences is {n_slots}, but must be 1 or more")
        self.pair, self.runtime, self.n_slots = pair, runtime or Runtime(), n_slots
        self._prefix_slot = prefix_slot
        self.roles = [role for role in Role if role in set(roles)]
        self._warnings: list[str] = []
        self.opened = datetime.now().isoformat(timespec="seconds")
        self.abort = llama.Abort()
        self._weights: dict[Role, AnyWeights] = {}
        self.lanes: Lanes = []
        try:
            with watching_interrupts(self.abort):
                self._open(on_progress)
        except BaseException:
            self.close()
            raise

    def _open(self, on_progress: Progress | None) -> None:
        require_slots(self.pair, self.runtime, self.n_slots, self.roles, self._prefix_slot)
        self.shapes = {role: read_shape(self.pair.of(role).path) for role in Role}
        self._asks_for_time = any(asks_for_time(self.pair.of(role).path) for role in self.roles)
        self.fingerprints = {role: fingerprint(self.pair.of(role).path) for role in Role}
        self.workers = self._reached_workers()
        for role in self.roles:
            report = (lambda done, role=role: on_progress(role, done)) if on_progress else None
            self._weights[role] = self._shared(role) or self._loaded(role, report)
        vocabularies: dict[Role, RoleVocabulary] = {role: w.vocabulary for role, w in self._weights.items()}
        self._vocabularies = vocabularies
        self._templates = {role: w.template for role, w in self._weights.items()}
        self._tags = {role: w.tags for role, w in self._weights.items()}
        self.tokens = PairTokens(vocabularies, self._tags)
        self.ctx_size = ctx_size_of(self.pair, self.runtime)
        self._opening = Opening(self._weights, self.runtime, self.n_slots, self.ctx_size, self._prefix_slot)
        self._opening.open(self.lanes, self.abort)
        formats = {str(role): context.cache_format for role, context in self.lanes[0].items()}
        self.identity = Identity({str(role): self.fingerprints[role] for role in self.roles}, formats)
        self._warn()

    def _reached_workers(self) -> dict[Role, list[Address]]:
        """The workers of each role that has any. InstallationError or WorkerError where they cannot be used: before
        anything is loaded."""
        workers = {Role(role): some for role, some in workers_of(self.runtime, map(str, self.roles)).items()}
        if workers:
            llama.require_rpc()
        for role, addresses in workers.items():
            for address in addresses:
                require_answer(address, role)
        return workers

    def _shared(self, role: Role) -> AnyWeights | None:
        """The other role's weights, where they are of the same file and lie where this role's would."""
        settings, shared = self.pair.of(role), self._weights.get(role.other)
        if shared is None or self.workers or not settings.path.samefile(shared.path):
            return None
        return shared if settings.gpu_layers == self.pair.leader.gpu_layers else None

    def _loaded(self, role: Role, report: Callable[[float], None] | None) -> AnyWeights:
        settings, runtime = self.pair.of(role), self.runtime
        if role in self.workers:
            return RemoteWeights(role, settings, self.workers[role], runtime, self.abort, report)
        return llama.Weights(settings.path, settings.gpu_layers, runtime.verbose, report, self.abort)

    def _warn(self) -> None:
        if any(not address.is_loopback for some in self.workers.values() for address in some):
            self._warnings.append(WARNING)
        trained = min(w.n_ctx_train for w in self._weights.values())
        if self.ctx_size > trained:
            self._warnings.append(f"--ctx-size {self.ctx_size} is more than the models were trained for ({trained})")
        n_processors = os.cpu_count() or 1
        if self._opening.threads > n_processors:
            self._warnings.append(
                f"--threads {self._opening.threads} is more than this machine's {n_processors} processors: "
                "threads that wait for each other make this very slow"
            )
        here = [role for role in self.roles if role not in self.workers]
        wanted = [role for role in here if self.pair.of(role).gpu_layers > 0]
        if wanted and not llama.supports_gpu_offload():
            self._warnings.append(
                "layers are to be offloaded, but llama-cpp-python finds no GPU (a build without GPU support, or no "
                "working driver): everything runs on the CPU (README, Install, says how to get a CUDA or Metal build)"
            )
        if any(w.avoids_amx for w in self._weights.values()):
            self._warnings.append(
                "this build of llama.cpp was compiled by a GCC whose AMX code crashes (PR 114098): its AMX and "
                "repacked kernels are not used; compile it with GCC 12.4, 13.3, 14 or later for speed"
            )
        if self.tokens.n_different:
            self._warnings.append(
                f"{self.tokens.n_different} special tokens differ between leader and draft: "
                "each reads the other's as text"
            )

    def prepare(self, settings: Generation, prompting: Prompting) -> Plan:
        """For answers with these: warn of what they cannot have, and plan. UsageError where a grammar cannot be read.
        Where it fails, or Ctrl-C comes while the models are timed, all is freed."""
        self.warn_of_unknown_tags(prompting)
        try:
            self.require_grammar(settings)
            return self.plan_for(settings)
        except BaseException:
            self.close()
            raise

    def warn_of_unknown_tags(self, prompting: Prompting) -> None:
        """Add a line to the warnings where a chat template marks reasoning with tags that are not known."""
        if prompting.raw:
            return
        for template in filter(None, self._templates.values()):
            if tag := unknown_tag(template, self.at_its_time(prompting)):
                self._warnings.append(
                    f"the chat template of {template.model} marks reasoning with {tag}, which is not "
                    "known here: reasoning and answer cannot be told apart, all is the answer"
                )
                return

    # ---------------------------------------------------------------- what engines need
    def plan_for(self, settings: Generation) -> Plan:
        """How many tokens to propose at a time; measured where these settings leave it open, before any answer.

        The mode does not matter: a chat may change it later.
        """
        if settings.method.proposals is not None or len(self.roles) < len(Role):
            return UNMEASURED_PLAN
        return self.measured_plan()

    def measured_plan(self, sizes: Sizes = SIZES, enough: float = ENOUGH) -> Plan:
        """The plan by the models' times, which are measured now; nothing may be evaluated meanwhile.

        sizes, enough: see speed.measure
        """
        with watching_interrupts(self.abort), self.abort.held():
            return measure(self.lanes[0], _ANY_TOKEN, sizes, enough)

    def use_threads(self, lane: int, n_busy: int) -> None:
        """Give a lane its share of the threads while n_busy lanes evaluate."""
        for context in self.lanes[lane].values():
            context.use_threads(self._opening.threads_each(n_busy))

    def tokens_of(self, text: str, sequence: Sequence) -> list[Spelled]:
        """A text as tokens for Sequence.close_with, in the ids of the model that wrote last."""
        author = sequence.tokens[-1].author if sequence.tokens else next(iter(sequence.views))
        return spelled(text, author, sequence, self.tokens)

    def encode(self, content: PromptContent, prompting: Prompting, most: int | None = None) -> PromptTokens:
        """A prompt's ids for each role; ContextFullError where its text is longer than `most` tokens can be."""
        self.require_open()
        if isinstance(content, TokenIds):
            return prompt_of_ids(content, self._vocabularies, self.tokens, self._tags)
        prompting = self.at_its_time(prompting)
        return encode_prompt(content, prompting, self._vocabularies, self._templates, self._tags, most)

    @property
    def prompt_vocabulary(self) -> RoleVocabulary:
        """The tokens that prompts of TokenIds are of: the leader's, or the draft's where it is alone."""
        self.require_open()
        return self._vocabularies[self.roles[0]]

    @property
    def prompt_template(self) -> str | None:
        """The chat template of the same model, in Jinja."""
        template = self._templates[self.roles[0]]
        return template.source if template else None

    def n_kept(self, messages: Messages, prompting: Prompting) -> dict[Role, int]:
        """How many of a conversation's tokens, for each role, its next turn begins with, too, whatever the answer is.
        At least one is left out, so that the answer has something to begin with."""
        answered = (
            messages if messages[-1]["role"] == "assistant" else [*messages, {"role": "assistant", "content": "."}]
        )
        now = self.encode(messages, prompting).ids
        after = self.encode([*answered, {"role": "user", "content": "."}], prompting).ids
        return {role: min(n_common(ids, after[role]), len(ids) - 1) for role, ids in now.items()}

    def at_its_time(self, prompting: Prompting) -> Prompting:
        """With the time that the templates are told, where one of them asks for it."""
        return with_time(prompting, self.opened) if self._asks_for_time else prompting

    def require_templates(self, prompting: Prompting) -> None:
        """UsageError, which names the model, where a chat template can write no prompt at all."""
        for template in filter(None, self._templates.values()):
            template.require_usable(self.at_its_time(prompting))

    def require_grammar(self, settings: Generation) -> None:
        """UsageError where the settings have a grammar that cannot be read."""
        for role in self.roles if settings.has_grammar else ():
            self.tokens.grammar(role, settings.grammar, settings.json_schema)

    def place_of_system(self, prompting: Prompting) -> str:
        """Where templates without a place for a system message have it; "" where all have one."""
        prompting = self.at_its_time(prompting)
        known = {template.model: template for template in self._templates.values() if template}
        folding = [name for name, template in known.items() if template.folds_system(prompting)]
        return f"before the first text of the user, for {' and '.join(folding)}" if folding else ""

    @property
    def warnings(self) -> list[str]:
        """Lines for the user: of how the models are loaded, and how their templates get what is asked."""
        return [*self._warnings, *self.tokens.notes, *self.prompt_notes]

    @property
    def prompt_notes(self) -> list[str]:
        """How the models' templates get what was asked so far, where that is not as it was given."""
        notes = [note for template in self._templates.values() if template for note in template.notes]
        return list(dict.fromkeys(notes))

    def describe(self, role: Role) -> str:
        """Model, size and where it runs, in a few words."""
        weights = self._weights[role]
        where = "GPU" if llama.supports_gpu_offload() and self.pair.of(role).gpu_layers != 0 else "CPU"
        if role in self.workers:
            where = " and ".join(map(str, self.workers[role]))
        size = f"{weights.n_bytes / 1e9:.1f} GB" if weights.n_bytes >= 1e9 else f"{weights.n_bytes / 1e6:.1f} MB"
        return f"{weights.path.name} ({weights.describe()}, {size}, {where})"

    # ---------------------------------------------------------------- closing
    @property
    def is_open(self) -> bool:
        return bool(self._weights)

    def require_open(self) -> None:
        """UsageError after `close`."""
        if not self.is_open:  # a vocabulary whose model is freed ends the process
            raise UsageError("this engine is closed: use it inside its `with`")

    def close(self) -> None:
        """Free the contexts, then the weights."""
        for lane in self.lanes:
            for context in lane.values():
                context.close()
        self.lanes.clear()
        for weights in set(self._weights.values()):
            weights.close()
        self._weights.clear()


def ctx_size_of(pair: Pair, runtime: Runtime) -> int:
    """Tokens of one sequence's context: as the settings say, or as both models were trained for, up to a limit."""
    if runtime.ctx_size is not None:
        return runtime.ctx_size
    trained = min(n_ctx_train(settings.path) for settings in (pair.leader, pair.draft))
    return max(2, min(trained, Runtime.MAX_DEFAULT_CTX_SIZE))
