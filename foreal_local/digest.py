"""The digest of what a response follows from, by which outputs and checkpoints are found again."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict
from typing import Any

from .config import Generation, Method, Prompting, Sampling, for_digest, is_as_before, names_of
from .method.modes import roles_of
from .method.roles import Role
from .runtime.messages import PromptContent, TokenIds

_MAY_BE_CONTROL = re.compile(r"<\S+>|\[/?[A-Z_]+\]|◁\S+▷")


def settings_hash(content: PromptContent, settings: Generation, prompting: Prompting, models: dict[Role, str]) -> str:
    """What a response follows from but its index: prompt, settings with the seed, models by fingerprint.

    A setting that is younger than version 0.1.0 is left out at the value that means what was so before it existed, and
    one that only other modes have is left out always. Where a prompt is read differently than in that version, that is
    among what the digest is of.
    """
    method = for_digest(names_of(Method), settings)
    sampling = for_digest(names_of(Sampling), settings)
    own = for_digest(names_of(Generation), settings) | {"method": method, "sampling": sampling}
    asked = {name: value for name, value in asdict(prompting).items() if not is_as_before(name, value)}
    asked |= _read_anew(content, prompting)
    parts = [content, own, asked, {str(role): models[role] for role in roles_of(settings.mode)}]
    return hashlib.blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=8).hexdigest()


def _read_anew(content: PromptContent, prompting: Prompting) -> dict[str, Any]:
    """How a prompt's tokens may differ from those of version 0.1.0: control tokens in its texts, and a last message of
    the assistant, which is continued now."""
    if isinstance(content, TokenIds):
        return {"is_of_ids": True}
    if prompting.raw:
        return {}
    found: dict[str, Any] = {}
    texts = json.dumps([content, prompting.system], ensure_ascii=False)
    if not prompting.parse_special and _MAY_BE_CONTROL.search(texts):
        found["controls_are_text"] = True
    if not isinstance(content, str) and content[-1]["role"] == "assistant":
        found["continues"] = True
    return found
