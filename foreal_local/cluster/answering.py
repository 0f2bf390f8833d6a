"""An actor of the cluster: a pair of models that answers prompts as they come, with its slots always full.

Knows the engine, and what travels (work.py). Does not know Ray: it gets rows, and several calls wait at a time.
"""

from __future__ import annotations

import asyncio
import pickle
import socket
import uuid
from pathlib import Path
from typing import Any

from .. import __version__
from ..batch.json_lines import to_line
from ..batch.printing import ending_of
from ..batch.totals import Totals
from ..engine import Engine
from ..errors import ForealError, InstallationError, UsageError
from ..memory.fitting import fitting
from ..method.roles import Role
from ..method.tokens import FinishReason
from ..offline import shared_prefix
from ..results import Prompt, Result
from ..runtime.gguf_file import fingerprint
from ..runtime.room import trained_for
from ..storage.checkpoints import Checkpoints
from .spool import prompts_in
from .work import Answer, Answered, Work

NUMBER, PROMPTS, ANSWERED = "number", "prompts", "answered"
"""The columns of rows: the task's number, what comes, and what goes."""


class Answerer:
    """Answers rows of prompts. A row is one task, and gives one row; each call waits until its own are answered.

    work: what is to be done
    """

    def __init__(self, work: Work) -> None:
        self._name, self._notes = uuid.uuid4().hex, list[str]()
        self._error: tuple[str, int] | None = None
        try:
            self._open(work)
        except Exception as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        """From now on all that is answered is why: the run ends with this line, and Ray tries nothing again."""
        where = f"(on {socket.gethostname()})"
        if isinstance(error, ForealError):
            self._error = (f"{error} {where}", error.exit_code)
        else:
            self._error = (f"{type(error).__name__}: {error} {where}", ForealError.exit_code)

    def _open(self, work: Work) -> None:
        if work.version != __version__:
            raise InstallationError(f"foreal-local is {__version__} here, and {work.version} where the run was started")
        pair = work.models.resolve()
        for role in Role:
            if fingerprint(pair.of(role).path) != work.fingerprints[role]:
                raise UsageError(f"the {role} {pair.of(role).path} is another file than where the run was started")
        is_shared = len(work.first) > 1
        fit = fitting(work.fit, self._notes.append)
        pair, runtime = fit(pair, work.runtime, n_slots=work.parallel, roles=work.roles, prefix_slot=is_shared)
        self._engine = engine = Engine(
            pair,
            runtime=runtime,
            n_slots=work.parallel,
            roles=work.roles,
            shared_prefix=is_shared,
            settings=work.settings,
            prompting=work.prompting,
        )
        self._most_context = trained_for(pair)
        if is_shared:
            found = shared_prefix(engine.loaded, work.first, work.prompting)
            for lane in engine.lanes:
                lane.scheduler.share(found)
        if not any((prompt.prompting or work.prompting).raw for prompt in work.first):
            engine.loaded.require_templates(work.prompting)
        self._checkpoints = (
            Checkpoints(Path(work.checkpoint), work.checkpoint_every, self._notes.append) if work.checkpoint else None
        )

    async def __call__(self, rows: dict[str, Any]) -> dict[str, Any]:
        """The answers to the prompts of each row."""
        found = await asyncio.gather(*(self._answered(bytes(data)) for data in rows[PROMPTS]))
        return {NUMBER: rows[NUMBER], ANSWERED: [pickle.dumps(each, pickle.HIGHEST_PROTOCOL) for each in found]}

    async def _answered(self, data: bytes) -> Answered:
        totals, answers = Totals(), list[Answer]()
        if self._error is None:
            try:
                tasks = [asyncio.ensure_future(self._answer(prompt, totals)) for prompt in prompts_in(data)]
                answers = list(await asyncio.gather(*tasks))
            except Exception as error:  # of the models, or of the disk: not of one prompt
                self._fail(error)
        if self._error is not None:
            return Answered(error=self._error)
        return self._with_state(answers, totals)

    async def _answer(self, prompt: Prompt, totals: Totals) -> Answer:
        engine = self._engine
        events = engine.driver.events(
            [prompt], engine.settings, engine.prompting, Result, offline=True, checkpoints=self._checkpoints
        )
        results = [event async for event in events if isinstance(event, Result)]
        result = results[0]
        totals.add(result)
        reason = result.finish_reason
        return Answer(
            result.index,
            result.id,
            result.submission.settings_hash,
            to_line(result.as_dict()),
            ending_of(result, self._most_context),
            reason is FinishReason.ERROR,
            reason is FinishReason.CONTEXT,
        )

    def _with_state(self, answers: list[Answer], totals: Totals) -> Answered:
        """The answers with what the driver is to know of this actor now."""
        engine, notes = self._engine, [*self._notes, *(f"warning: {each}" for each in self._engine.warnings)]
        self._notes.clear()
        return Answered(answers, totals, self._name, engine.cost, engine.plan, notes, list(engine.loaded.prompt_notes))
