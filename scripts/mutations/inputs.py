"""Prompt files and session files that are broken in many ways, and encodings of standard output."""

from __future__ import annotations

import json
import random
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from foreal_local.storage import session as sessions

from .common import Case, run_case

ROOT = Path(__file__).resolve().parents[2]
N_LONG, N_SHORT = 300, 24
_MODELS = ("--threads", "1", "--ctx-size", "256", "-q")
_FEW = (*_MODELS, "--max-tokens", "3", "--temp", "0", "--seed", "1")


def cases(rng: random.Random, folder: Path, long: bool) -> Iterator[Case]:
    """Two of three with prompts and one with a session, after those of the encodings."""
    yield from _encodings()
    saved = _saved_sessions(folder)
    for i in range(N_LONG if long else N_SHORT):
        yield _with_session(i, rng, saved) if i % 3 == 2 else _with_prompts(i, rng)


# ---------------------------------------------------------------- encodings
def _encodings() -> Iterator[Case]:
    prompts = "数字 one\ncafé “two”\n".encode()
    for encoding in ("cp1252", "latin-1", "ascii", "shift_jis", "utf-16"):
        env = {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
        printed = "utf-8" if encoding == "ascii" else encoding  # click writes no ASCII
        calls = {"gen": (("gen", "-f", "-"), printed), "chat": (("chat", "--lines"), encoding)}
        calls["records"] = (("gen", "-f", "-", "-o", "-"), "utf-8")
        for name, (words, expected) in calls.items():
            command = (*words, *_FEW)
            yield Case(f"{name} in {encoding}", command, {}, prompts, env, encoding=expected, fresh=True)


# ---------------------------------------------------------------- prompts
def _object(rng: random.Random) -> dict[str, Any]:
    """A line that is right."""
    prompt: dict[str, Any] = {"prompt": rng.choice(["How many?", "数字 é", "a" * 50, "x\ny"])}
    if rng.random() < 0.3:
        prompt = {"messages": [{"role": "user", "content": "How many?"}]}
    if rng.random() < 0.3:
        return {"custom_id": str(rng.random()), "url": "/v1/chat/completions", "body": prompt | {"max_tokens": 2}}
    more = {"id": str(rng.random()), "temp": 0.5, "seed": 3, "n": 4, "mode": "leader", "stop": ["x"], "max_tokens": 2}
    return prompt | {name: value for name, value in more.items() if rng.random() < 0.3}


_VALUES: list[Any] = [
    None,
    True,
    [],
    {},
    "",
    "x",
    -1,
    0,
    10**30,
    10**400,
    1e300,
    [[]],
    {"a": []},
    [None],
    ["x", 1],
    "\ud800",
]
_VALUES += ["\0", "a" * 100_000, [{"role": "user"}], [{"role": 1, "content": 2}], [{"role": "user", "content": []}]]
_WORDS = ["NaN", "Infinity", "-Infinity", "1e999", "9" * 5000, "-" + "9" * 400, "[" * 100_000, '{"a":' * 100_000]
_WORDS += ["", "nul", '"\\ud800"', '"\\u0000"', "0x1", "'x'", "1.", "[1,]"]
_KEYS = ["prompt", "messages", "body", "id", "custom_id", "temp", "seed", "n", "p", "k", "mode", "stop", "max_tokens"]
_KEYS += ["template_args", "system", "raw", "top_k", "url", "gate", "review", "proposals", "temperature"]


def _wrong_type(line: str, rng: random.Random) -> str:
    record = json.loads(line)
    inner = record["body"] if isinstance(record.get("body"), dict) and rng.random() < 0.6 else record
    inner[rng.choice(_KEYS)] = rng.choice(_VALUES)
    return json.dumps(record)


def _literal(line: str, rng: random.Random) -> str:
    return f'{line[:-1]}, "{rng.choice(_KEYS)}": {rng.choice(_WORDS)}}}'


def _twice(line: str, rng: random.Random) -> str:
    return f'{line[:-1]}, "{rng.choice(_KEYS)}": 1, "prompt": "again", "prompt": 2}}'


_OF_A_LINE: list[Callable[[str, random.Random], str]] = [
    _wrong_type,
    _wrong_type,
    _literal,
    _literal,
    _twice,
    lambda line, rng: line[: rng.randrange(len(line))],
    lambda line, rng: rng.choice(_WORDS),
    lambda line, rng: line + line,
    lambda line, rng: "\ufeff" + line,
    lambda line, rng: line + " " * 200_000,
    lambda line, rng: "x" * 1_000_000,
    lambda line, rng: "",
]


def _flipped(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice([1, 3, 30])):
        if changed:
            changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _put_in(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data) + 1)
    strange = [b"\0", b"\xff\xfe", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\r", b"\x1a", b"\xc3", b"\x1b[2J", b"\n" * 5000]
    return data[:at] + rng.choice(strange) + data[at:]


_OF_A_FILE: list[Callable[[bytes, random.Random], bytes]] = [
    lambda data, rng: data,
    _flipped,
    _put_in,
    lambda data, rng: data[: rng.randrange(len(data) + 1)],
    lambda data, rng: data.replace(b"\n", b"\r\n"),
    lambda data, rng: data.replace(b"\n", b"\r"),
    lambda data, rng: b"\xef\xbb\xbf" + data,
    lambda data, rng: data.decode("utf-8", "replace").encode(
        rng.choice(["utf-16", "utf-16-le", "utf-32", "latin-1"]), "replace"
    ),
    lambda data, rng: rng.randbytes(500),
    lambda data, rng: b"",
]


def _with_prompts(i: int, rng: random.Random) -> Case:
    as_json = rng.random() < 0.7
    lines = [json.dumps(_object(rng), ensure_ascii=rng.random() < 0.5) if as_json else "How many?" for _ in range(3)]
    if as_json:
        lines[rng.randrange(3)] = rng.choice(_OF_A_LINE)(lines[0], rng)
    data = rng.choice(_OF_A_FILE)(("\n".join(lines) + "\n").encode("utf-8", "surrogatepass"), rng)
    name = f"prompts.{rng.choice(['jsonl', 'jsonl', 'ndjson']) if as_json else 'txt'}"
    calls: list[tuple[tuple[str, ...], bytes]] = [
        (("gen", *_FEW, "-f", name, "-o", "-"), b""),
        (("gen", *_FEW, "-f", name, "-o", "out.jsonl", "--trace", "trace.jsonl", "--checkpoint", "unfinished"), b""),
        (("gen", *_FEW, "-f", "-"), data),
        (("gen", *_FEW, "How many?"), data),
        (("gen", *_FEW, "--prompt-file", name), data[:100]),
        (("chat", *_FEW), data),
        (("gen", *_FEW, "--prompt", "How many?", "--resume", "-o", name), b""),
        (("gen", *_FEW, "--prompt", "How many?", "--config", name), b""),
        (("analyze", *_MODELS, "--prompts", name, "--max-tokens", "3"), b""),
        (("analyze", *_MODELS, "--responses", name), b""),
        (("analyze", *_MODELS, "--trace", name), b""),
        (("bench", *_FEW, "--problems", name, "--modes", "leader"), b""),
        (("bench", "--responses", name, "--limit", "3", "-q"), b""),
        (("chat", "--lines", *_FEW), f"/read {name} What is this?\n".encode() + data[:300] + b"\n/exit\n"),
    ]
    command, stdin = rng.choice(calls[:6] if rng.random() < 0.6 else calls)
    return Case(f"prompts {i}", command, {name: data}, stdin)


# ---------------------------------------------------------------- sessions
def _saved_sessions(folder: Path) -> list[bytes]:
    """Sessions that real chats have saved: of the bundled pair, and of its models the other way round."""
    other = ("-l", str(ROOT / "models" / "tiny-draft.gguf"), "-d", str(ROOT / "models" / "tiny-leader.gguf"))
    made = []
    for name, models in (("one", ()), ("other", other)):
        lines = f"How many?\nAnd now?\n/save {folder / name}\n".encode()
        run_case(Case(name, ("chat", "--lines", *_FEW, *models), {}, lines), folder / f"{name}-run", fresh=True)
        made.append((folder / name).read_bytes())
    return made


def _signed_again(data: bytes, rng: random.Random) -> bytes:
    """Another version, or other values, under a right digest: as another program or another version would write it."""
    found = sessions._whole_header(data, at_end=False)
    assert found
    version, header = found
    states = data[sessions._FRAME.size + len(header) : len(data) - sessions._FRAME.size - len(header)]
    values = json.loads(zlib.decompress(header))
    if rng.random() < 0.2:
        version = rng.choice([0, 1, 3, 2**32 - 1])
    else:
        _change_somewhere(values, rng)
    header = zlib.compress(json.dumps(values).encode()) if rng.random() < 0.9 else rng.randbytes(40)
    frame = struct.pack("<8sII16s", b"FOREALST", version, len(header), sessions._digest(version, header))
    return frame + header + states + header + frame


def _change_somewhere(values: Any, rng: random.Random) -> None:
    """Give one value, at any depth, another one; or take it away."""
    while isinstance(values, (dict, list)) and values:
        keys = list(values) if isinstance(values, dict) else list(range(len(values)))
        key = rng.choice(keys)
        if isinstance(values[key], (dict, list)) and values[key] and rng.random() < 0.8:
            values = values[key]
            continue
        if rng.random() < 0.3:
            del values[key]
        else:
            values[key] = rng.choice([None, -1, 10**30, "x", [], {}, [[1]], True, 1e300, float("nan"), {"role": 5}])
        return


_OF_A_SESSION: list[Callable[[bytes, random.Random], bytes]] = [
    _flipped,
    _put_in,
    _signed_again,
    _signed_again,
    _signed_again,
    lambda data, rng: data[: rng.randrange(len(data))],
    lambda data, rng: data[rng.randrange(len(data)) :],
    lambda data, rng: data[len(data) // 2 :] + data[: len(data) // 2],
    lambda data, rng: _flipped(data[:60], rng) + data[60:],
    lambda data, rng: _flipped(data[:60], rng) + data[60:-60] + _flipped(data[-60:], rng),
    lambda data, rng: data[:40] + rng.randbytes(len(data) - 40),
    lambda data, rng: data,
    lambda data, rng: b"",
]


def _with_session(i: int, rng: random.Random, saved: list[bytes]) -> Case:
    data = rng.choice(_OF_A_SESSION)(rng.choice(saved), rng)
    if rng.random() < 0.3:
        files = {"foreal/sessions/it.session": data}
        command = ("chat", "--lines", *_FEW, "--session", "it")
        return Case(f"session {i}, opened", command, files, b"How many?\n", {"XDG_CONFIG_HOME": "."})
    lines = b"/load it\n/show\n/stats\nHow many?\n/undo\n/regen\n/save it\n/export it.md\n/think last\n"
    return Case(f"session {i}, loaded", ("chat", "--lines", *_FEW), {"it": data}, lines)
