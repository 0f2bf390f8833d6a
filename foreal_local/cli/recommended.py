"""What foreal bench --recommend writes: a file for --config, the setting, its pair and what it was measured on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..choice import measured_of
from ..config import Method, Sampling, names_of
from ..evaluation.reports.report import timestamp

if TYPE_CHECKING:
    from ..evaluation.measures import Response
    from ..evaluation.recommendation import Recommendation
    from ..pairs import PairEntry

_OPTIONS_KEPT = ("pair", "leader", "draft", "ctx_size", "system", "raw", "template_arg")
_MEASURED = (
    "mode", *names_of(Method), *names_of(Sampling), "max_tokens", "stop", "stop_in_reasoning", "grammar", "json_schema",
)  # fmt: skip


def config_of(
    recommendation: Recommendation,
    points_lost: float,
    responses: list[Response],
    values: dict[str, Any],
    entry: PairEntry | None = None,
) -> str:
    """A file for --config: the recommended setting as it was measured, with its models and prompting, and what of it
    `--mode auto --loss` needs to know."""
    own = [r for r in responses if r.setting == recommendation.setting]
    records = [r.record for r in own if r.measured]
    settings = {name: records[0][name] for name in _MEASURED if records[0].get(name) not in (None, [])}
    kept = values | ({"pair": entry.name} if entry else {})
    settings |= {name: kept[name] for name in _OPTIONS_KEPT if kept[name] not in (None, [], (), False)}
    n_problems = len({response.problem for response in own})
    table = measured_of(records, points_lost)
    comments = [recommendation.reason, *_origin(values, entry, n_problems)]
    lines = [*map(_comment, comments), *_toml(settings), "", "[measured]", *_toml(table)]
    return "".join(f"{line}\n" for line in lines)


def _origin(values: dict[str, Any], entry: PairEntry | None, n_problems: int) -> list[str]:
    """With what, when and on what a setting was measured."""
    name = f"pair {entry.name}: " if entry else ""
    leader, draft = (entry.leader, entry.draft) if entry else (values["leader"], values["draft"])
    models = f"{name}leader {_file_name(leader)}, draft {_file_name(draft)}"
    if values["responses"]:
        models = f"the responses of {values['responses']}, whose models are not known here"
    return [models, f"measured {timestamp()}, on {n_problems} problems of {values['problems']}"]


def _file_name(model: str | None) -> str:
    """A file's name without its folder, a name of the hub as it is."""
    return Path(model).name if model and Path(model).exists() else str(model)


def _comment(text: str) -> str:
    """A line of a TOML file, which has no control characters."""
    return "# " + "".join(c if c.isprintable() else " " for c in text)


def _toml(values: dict[str, Any]) -> list[str]:
    """Numbers, texts and lists in JSON are TOML too, but not JSON's surrogate pairs."""
    return [f"{name.replace('_', '-')} = {json.dumps(value, ensure_ascii=False)}" for name, value in values.items()]
