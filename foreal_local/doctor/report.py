"""The findings as lines for a screen: problems first, then what there is."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..memory.words import in_words
from ..method.plan import Speed
from ..runtime.speed import MOST_SEQUENCES
from .examine import shortened
from .findings import Expected, Findings

if TYPE_CHECKING:
    from ..memory.need import RoleNeed

WIDTH = 80
_LABEL = 12
_PARTS = {"weights": "weights", "cache": "caches", "compute": "buffers", "outputs": "logits"}
_SHOWN = (1, 8, 32)


def lines_of(findings: Findings) -> list[str]:
    """All of it."""
    sections = [_problems(findings), _machine(findings), _pair(findings), _speed(findings)]
    return "\n\n".join("\n".join(lines) for lines in map(list, sections) if lines).splitlines()


def _problems(findings: Findings) -> Iterator[str]:
    if not findings.problems:
        yield "no problems"
    for problem in findings.problems:
        mark = "ERROR  " if problem.stops else "note   "
        yield from _wrapped(mark, problem.text)
        if problem.step:
            yield from _wrapped("       ", f"-> {problem.step}")


def _machine(findings: Findings) -> Iterator[str]:
    machine, cache = findings.machine, findings.cache
    if machine:
        yield from _row("cores", f"{machine.cores} (of {machine.processors} processors)")
        memory = machine.memory
        limit = f", {in_words(memory.limit.free)} of the {in_words(memory.limit.total)} allowed" if memory.limit else ""
        size = (
            f"{in_words(memory.total)}, {in_words(memory.available)} free"
            if memory.total
            else "the system does not tell"
        )
        yield from _row("memory", size + limit)
        for device in machine.devices:
            size = f"{in_words(device.free)} of {in_words(device.total)} free" if device.total else "memory not told"
            yield from _row("GPU", f"{device.name}, {device.description}: {size}")
        if not machine.devices:
            yield from _row("GPU", "none that llama.cpp can use")
        yield from _row(
            "llama.cpp", f"llama-cpp-python {findings.version}, {', '.join(machine.backends) or 'CPU alone'}"
        )
        yield from _row("RPC", "built in" if machine.has_rpc else "not built in (models on several machines need it)")
    if cache:
        models = f"{cache.n_models} model{'s' * (cache.n_models != 1)}, {in_words(cache.n_bytes)}"
        yield from _row("hub's cache", f"{shortened(cache.folder)}: {models}; {in_words(cache.free)} of disk free")


def _pair(findings: Findings) -> Iterator[str]:
    for role, path in findings.models.items():
        yield from _row(str(role), shortened(path))
    fitted, machine = findings.fitted, findings.machine
    if not fitted or not machine:
        return
    request, need = fitted.request, fitted.need
    at_a_time = f"{request.n_slots} prompts at a time" if request.n_slots > 1 else "one prompt at a time"
    yield from _row("context", f"{request.ctx_size} tokens, {at_a_time}")
    if need is None:
        return
    yield f"{'':{_LABEL}}" + "".join(f"{role!s:>12}" for role in need.roles)
    for part, label in _PARTS.items():
        yield f"{label:{_LABEL}}" + "".join(f"{in_words(_sum(each, part)):>12}" for each in need.roles.values())
    for device in machine.devices:
        on = "".join(f"{in_words(each.on(device)):>12}" for each in need.roles.values())
        yield f"{'on ' + device.name:{_LABEL}}{on}   of {in_words(device.free)} free"
    if machine.devices:
        layers = (request.pair.of(role).gpu_layers for role in need.roles)
        yield f"{'GPU layers':{_LABEL}}" + "".join(f"{'all' if n < 0 else n:>12}" for n in layers)
    total = need.taken(machine.devices) + need.mapped
    free, is_known = machine.memory.free, machine.memory.total or machine.memory.limit
    fits = f" of {in_words(free)} free: {'fits' if total <= free else 'does not fit'}" if is_known else ""
    yield from _row("in memory", in_words(total) + fits)


def _sum(need: RoleNeed, part: str) -> int:
    more = max(0, need.logits - sum(need.outputs.values())) if part == "outputs" else 0
    return sum(need.parts[part].values()) + more


def _speed(findings: Findings) -> Iterator[str]:
    if not findings.plan:
        return
    threads = f"{findings.threads} thread{'s' * (findings.threads != 1)}"
    n_answers = min(findings.fitted.request.n_slots, MOST_SEQUENCES) if findings.fitted else 1
    threads += f", {n_answers} answers" if n_answers > 1 else ""
    yield f"{'milliseconds':{_LABEL}}" + "".join(f"{_size(size):>12}" for size in _SHOWN) + f"   ({threads})"
    for role, speed in findings.plan.speeds.items():
        yield (f"{role!s:{_LABEL}}" + "".join(f"{_ms(speed, size):>12}" for size in _SHOWN)).rstrip()
    if findings.expected:
        yield ""
        yield from map(_expected, findings.expected)
    if findings.advice:
        yield from _wrapped("", findings.advice)


def _size(n_tokens: int) -> str:
    return "a token" if n_tokens == 1 else f"{n_tokens} tokens"


def _ms(speed: Speed, n_tokens: int) -> str:
    """Of so many tokens, where they were measured."""
    seconds = speed.seconds.get(n_tokens)
    return "" if seconds is None else _three(1e3 * seconds)


def _three(value: float) -> str:
    """With three digits."""
    return f"{value:.3g}" if value < 999.5 else f"{value:.0f}"


def _expected(each: Expected) -> str:
    basis = f"   {each.basis}" if each.basis else ""
    return f"{each.name:18}{_three(1e3 * each.seconds):>9} ms a token {each.against:6.2f} x{basis}"


def _row(label: str, text: str) -> Iterator[str]:
    yield from _wrapped(f"{label:{_LABEL}}", text)


def _wrapped(label: str, text: str) -> Iterator[str]:
    yield from textwrap.wrap(
        text, WIDTH, initial_indent=label, subsequent_indent=" " * len(label), break_on_hyphens=False
    )
