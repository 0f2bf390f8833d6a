"""What a run that is resumed keeps of the parts of the earlier run, as resume.py does it for one file.

Of each record it remembers two digests, so that a million records take a tenth of a gigabyte.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable

from ..batch.resume import must_be_made_again, plan_for, read_earlier, tell_dropped
from .parts import Parts


class EarlierParts:
    """The records of all parts, by the prompts' ids. UsageError where a part has a line that is no record.

    parts: of the earlier run
    ctx_size: of this run; a response that filled a smaller context is answered again
    seed, now: what most records of the first part have, also those of prompts that named their own
    """

    def __init__(self, parts: Parts, ctx_size: int) -> None:
        self._parts, self._ctx_size = parts, ctx_size
        self._made: dict[int, int] = {}
        self._stale: dict[str, str] = {}
        self.seed: int | None = None
        self.now: str | None = None
        for file in parts.files():
            earlier = read_earlier(file)
            ids = [record["id"] for _, record in earlier.lines]
            self.seed = earlier.seed(ids) if self.seed is None else self.seed
            self.now = self.now or earlier.now(ids)
            for _, record in earlier.lines:
                again = must_be_made_again(record, ctx_size)
                self._made[_digest(record["id"])] = 0 if again else _digest(record.get("settings_hash") or "")

    def has(self, id: str, settings_hash: str) -> bool:
        """Whether a prompt needs no answer any more; else its record, if there is one, is dropped by `apply`."""
        made = self._made.get(_digest(id))
        if made is not None and made != _digest(settings_hash):
            self._stale[id] = settings_hash
            return False
        return made is not None

    def apply(self, note: Callable[[str], None]) -> None:
        """Take the records out of the parts that are made again; a part is kept as it was where a text would be
        lost."""
        dropped: Counter[str] = Counter()
        for file in self._parts.files() if self._stale else []:
            plan = plan_for(read_earlier(file), self._stale, self._ctx_size)
            dropped += plan.dropped
            plan.write(note)
        tell_dropped(dropped, note)


def _digest(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big") or 1
