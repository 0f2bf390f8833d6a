"""The models of an analysis: vocabularies compared, the leader's answers, then one reader after the other.

Knows how models are opened and in which order. Only one is in memory at a time, except while vocabularies are
compared: a response that is written already is read by one model after the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial

from ...config import Generation, ModelSettings, Pair, Prompting, Runtime
from ...engine import Engine
from ...errors import ForealError, UsageError, VocabularyError
from ...method.reasoning import DEFAULT_TAGS
from ...method.roles import Role
from ...method.sentences import Boundaries
from ...method.tokens import FinishReason
from ...results import Prompt, Result
from ...runtime import llama
from ...runtime.gguf_file import n_ctx_train
from ...runtime.interrupt import watching_interrupts
from ...runtime.messages import PromptContent, TokenIds
from ...runtime.pair_tokens import PairTokens
from ...runtime.text import encode_prompt
from ...runtime.vocabulary import RoleVocabulary, encode_inside
from .callbacks import Callbacks
from .drafts import Draft, ForeignDraft, LeaderResponse
from .judging import LeaderReading, Predictions, WrittenView, sentences_of, texts_of, view_of
from .readers import read
from .sources import RecordedResponse, ResponseSource, Trace, TracedResponse

LEADER, DRAFT = Role.LEADER, Role.DRAFT


@dataclass
class AnalysisModels:
    """Opens the leader and the drafts, by name, when their turn comes."""

    leader: ModelSettings
    drafts: dict[str, ModelSettings]
    runtime: Runtime
    prompting: Prompting
    n_slots: int
    callbacks: Callbacks
    _kept: ExitStack = field(default_factory=ExitStack)

    def close(self) -> None:
        """Close what had to stay open."""
        self._kept.close()

    # ---------------------------------------------------------------- vocabularies
    def compare(self, source: ResponseSource) -> tuple[list[Draft], list[LeaderResponse]]:
        """The drafts, each with how it reads the leader's words; and the responses that the source has."""
        abort = llama.Abort()
        with watching_interrupts(abort), self._weights(self.leader, LEADER, abort, gpu=False) as leader:
            drafts = []
            for name, settings in self.drafts.items():
                with self._weights(settings, DRAFT, abort, gpu=False) as weights:
                    drafts.append(self._draft(name, settings, leader, weights, source))
                    self._tell_notes(weights)
            responses = self._responses_in(source, leader, drafts)
            self._tell_notes(leader)
            return drafts, responses

    def _tell_notes(self, weights: llama.Weights) -> None:
        """What the chat template has made of prompts that is not as it was asked."""
        for note in weights.template.notes if weights.template else ():
            self.callbacks.note(f"warning: {note}")

    def _draft(
        self, name: str, settings: ModelSettings, leader: llama.Weights, draft: llama.Weights, source: ResponseSource
    ) -> Draft:
        both = {LEADER: leader, DRAFT: draft}
        reader = self._reads_as(name, settings, both)
        if isinstance(source, Trace):
            took_part = [name == source.draft and _reads(traced.prompts[DRAFT], draft) for traced in source.responses]
            if not all(took_part) and _source_of(leader) != _source_of(draft):
                self.callbacks.note(
                    f"{name} has a chat template of its own, but reads the trace's prompts in the leader's"
                )
            prompts = [
                traced.prompts[DRAFT] if took else reader.prompt_of(traced.prompts[LEADER])
                for traced, took in zip(source.responses, took_part, strict=True)
            ]
            return replace(reader, prompts=prompts)
        alone = [self._encode(item.id, item.content, {LEADER: leader})[1] for item in source]
        encoded = [self._encode(item.id, item.content, both) for item in source]
        if any(thinks and not by_itself for (_, thinks), by_itself in zip(encoded, alone, strict=True)):
            self.callbacks.note(
                f"the chat template of {name} opens the reasoning, the leader's does not: contexts differ there"
            )
        return replace(reader, prompts=[ids[DRAFT] for ids, _ in encoded])

    def _reads_as(self, name: str, settings: ModelSettings, both: dict[Role, llama.Weights]) -> Draft:
        """The draft without prompts. Where its words are others, both vocabularies stay open."""
        own = {role: weights.tags for role, weights in both.items()}
        try:
            tokens = PairTokens({role: weights.vocabulary for role, weights in both.items()}, own)
        except VocabularyError as error:
            raise VocabularyError(f"{name}: {error}") from None
        if not tokens.is_shared:
            self.callbacks.note(f"{name}: " + "; ".join(tokens.notes))
            kept: dict[Role, RoleVocabulary] = {
                role: self._kept.enter_context(llama.vocabulary_alone(each.path)) for role, each in both.items()
            }
            return ForeignDraft(name, settings, [], PairTokens(kept, own), kept)
        if tokens.n_different:
            self.callbacks.note(
                f"{tokens.n_different} special tokens of the leader are others in {name}: it reads them as text"
            )
        return Draft(name, settings, [], tokens)

    def _encode(
        self, id: str | None, content: PromptContent, models: dict[Role, llama.Weights]
    ) -> tuple[dict[Role, list[int]], bool]:
        """Each role's ids of a prompt (of a file: a text or messages), and whether it opens the reasoning."""
        assert not isinstance(content, TokenIds)
        vocabularies: dict[Role, RoleVocabulary] = {role: weights.vocabulary for role, weights in models.items()}
        templates = {role: weights.template for role, weights in models.items()}
        own = {role: weights.tags for role, weights in models.items()}
        try:
            encoded = encode_prompt(content, self.prompting, vocabularies, templates, own)
        except ForealError as error:
            raise UsageError(f"prompt {id}: {error}") from None
        if not all(encoded.ids.values()):
            raise UsageError(f"prompt {id} is empty: there is no token to continue from")
        return encoded.ids, encoded.starts_thinking

    # ---------------------------------------------------------------- responses
    def _responses_in(
        self, source: ResponseSource, leader: llama.Weights, drafts: Sequence[Draft]
    ) -> list[LeaderResponse]:
        """The responses of records and traces in the leader's ids; none of prompts that are still to be answered."""
        if isinstance(source, Trace):
            author = next((draft for draft in drafts if draft.name == source.draft), drafts[0])
            return [
                LeaderResponse(
                    i,
                    traced.id,
                    traced.prompts[LEADER],
                    _leader_tokens(traced, leader.vocabulary, author),
                    traced.finish_reason,
                )
                for i, traced in enumerate(source.responses)
            ]
        responses = []
        for i, item in enumerate(source):
            if isinstance(item, RecordedResponse):
                ids, _ = self._encode(item.id, item.content, {LEADER: leader})
                tokens = encode_inside(leader.vocabulary, item.text)
                responses.append(LeaderResponse(i, item.id, ids[LEADER], tokens, item.finish_reason))
        return responses

    def answers(self, prompts: Sequence[Prompt], settings: Generation) -> tuple[list[LeaderResponse], int]:
        """The leader's answers, and how many prompts failed. The context is one that every draft can follow."""
        paths = [self.leader.path, *(draft.path for draft in self.drafts.values())]
        fits = max(2, min(*map(n_ctx_train, paths), Runtime.MAX_DEFAULT_CTX_SIZE))
        runtime = replace(self.runtime, ctx_size=self.runtime.ctx_size or fits)
        n_slots, results, is_shared = min(self.n_slots, len(prompts)), list[Result](), len(prompts) > 1
        pair, runtime = self.callbacks.fitting(
            Pair(self.leader, self.leader), runtime, n_slots=n_slots, roles={LEADER}, prefix_slot=is_shared
        )
        with self.callbacks.loading() as on_progress:
            engine = Engine(
                pair,
                runtime=runtime,
                n_slots=n_slots,
                roles={LEADER},
                shared_prefix=is_shared,
                on_progress=on_progress,
            )
        with engine, self.callbacks.progress("the leader answers", len(prompts)) as advance:
            for warning in engine.warnings:
                self.callbacks.note(f"warning: {warning}")
            with closing(engine.run(prompts, settings, self.prompting)) as run:
                for item in run:
                    if isinstance(item, Result):
                        results.append(item)
                        advance(1)
        return self._responses_of(sorted(results, key=lambda result: result.index))

    def _responses_of(self, results: list[Result]) -> tuple[list[LeaderResponse], int]:
        responses = []
        for result in results:
            if result.finish_reason is FinishReason.ERROR:
                self.callbacks.note(f"prompt {result.id} failed: {result.error}")
                continue
            view = result.sequence.views[LEADER]
            ids, n_prompt = view.ids, view.n_prompt
            responses.append(
                LeaderResponse(result.index, result.id, ids[:n_prompt], ids[n_prompt:], str(result.finish_reason))
            )
        return responses, len(results) - len(responses)

    # ---------------------------------------------------------------- readers
    def predictions(self, draft: Draft, responses: Sequence[LeaderResponse]) -> list[Predictions | None]:
        """A draft's along each response; None where it gives no numbers."""
        views = [draft.view(response) for response in responses]
        with self._reader(draft.settings, DRAFT, views, draft.name) as (_, predictions):
            return predictions

    def readings(
        self, responses: Sequence[LeaderResponse], wanted: Sequence[Sequence[Sequence[int]]], rule: Boundaries
    ) -> list[LeaderReading | None]:
        """The leader along each response; None where it gives no numbers.

        wanted: of each response, at each position, each draft's top-1
        """
        views = [
            view_of(response.prompt, response.tokens, lambda token: (token,), asked)
            for response, asked in zip(responses, wanted, strict=True)
        ]
        with self._reader(self.leader, LEADER, views) as (weights, predictions):
            readings: list[LeaderReading | None] = []
            vocabulary = weights.vocabulary
            tags = weights.tags or DEFAULT_TAGS
            for response, leader in zip(responses, predictions, strict=True):
                if leader is None:
                    readings.append(None)
                    continue
                texts = texts_of(vocabulary.piece(token) for token in response.tokens)
                sentences = sentences_of(texts, rule, tags.closing)
                readings.append(LeaderReading(response.id, response.tokens, texts, sentences, leader))
            return readings

    @contextmanager
    def _reader(
        self, settings: ModelSettings, role: Role, views: list[WrittenView], name: str = "the leader"
    ) -> Iterator[tuple[llama.Weights, list[Predictions | None]]]:
        """A model's predictions along all views; it is there for as long as this is open."""
        abort, longest = llama.Abort(), max(len(view.ids) for view in views)
        n_slots, runtime = min(self.n_slots, len(views)), replace(self.runtime, ctx_size=max(2, longest))
        pair, runtime = self.callbacks.fitting(Pair(settings, settings), runtime, n_slots=n_slots, roles={LEADER})
        with watching_interrupts(abort), self._weights(pair.leader, role, abort) as weights:
            if longest > weights.n_ctx_train:
                self.callbacks.note(f"{name} was trained for {weights.n_ctx_train} tokens, and reads {longest} here")
            with self.callbacks.progress(f"{name} reads", sum(len(view.starts) for view in views)) as advance:
                predictions = read(weights, views, n_slots, runtime, abort, advance)
            yield weights, predictions

    @contextmanager
    def _weights(
        self, settings: ModelSettings, role: Role, abort: llama.Abort, gpu: bool = True
    ) -> Iterator[llama.Weights]:
        """An open model; without `gpu`, for its vocabulary only."""
        with self.callbacks.loading() as on_progress:
            report = partial(on_progress, role) if on_progress else None
            layers = settings.gpu_layers if gpu else 0
            weights = llama.Weights(settings.path, layers, self.runtime.verbose, report, abort)
        with closing(weights):
            yield weights


def _reads(ids: list[int], weights: llama.Weights) -> bool:
    return bool(ids) and max(ids) < weights.vocabulary.n_tokens


def _source_of(weights: llama.Weights) -> str | None:
    return weights.template.source if weights.template else None


def _leader_tokens(traced: TracedResponse, vocabulary: llama.Vocabulary, draft: Draft) -> list[int]:
    """A traced response in the leader's ids. UsageError where another leader wrote it: its ids give another text."""
    tokens = draft.leaders_ids([(author, token) for author, token, _ in traced.tokens])
    known = all(token < vocabulary.n_tokens for token in [*traced.prompts[LEADER], *tokens])
    text = "".join(texts_of(map(vocabulary.piece, tokens))) if known else ""
    if not text.startswith(traced.text.rstrip("\ufffd")):  # a stop string may have cut it, and half a character end it
        raise UsageError(f"the trace is not this leader's: response {traced.id} reads otherwise in its words")
    return tokens
