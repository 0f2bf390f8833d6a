"""Grammars and JSON schemas in real GGUF files: every answer keeps to them, whoever writes it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from commands import MODULE, environment, error_line, jsonl, records, run

from foreal_local.config import Generation, Method, Sampling
from foreal_local.engine import Engine
from foreal_local.errors import UsageError
from foreal_local.results import Result

from . import tiny_gguf
from .engines import PAIRS, RAW, PairMaker, open_engine, pair_of, replayed

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 9},
        "kind": {"enum": ["one", "two", 'a "third"']},
        "sizes": {"type": "array", "items": {"type": ["boolean", "null"]}, "minItems": 1, "maxItems": 3},
    },
    "required": ["name", "kind", "sizes"],
}
DATES = 'root ::= year "-" [01] [0-9] ("!" | "?")\nyear ::= [0-9] [0-9] [0-9] [0-9]'
PROMPTS = ["wait", "Hi", "so the sum", "now"]
MODES: list[dict[str, Any]] = [
    {"mode": "leader"},
    {"mode": "speculative", "proposals": 4},
    {"n": 2, "k": 1, "p": 0.5, "proposals": 3},
    {"gate": "never", "review": "ratio", "tau": 0.4, "proposals": 6, "review_every": 7},
    {"gate": "entropy", "review": "exact", "proposals": 0},
]


def settings(mode: str = "foreal", temp: float = 0.0, max_tokens: int = 150, **more: Any) -> Generation:
    own = {name: more.pop(name) for name in ("grammar", "json_schema", "stop") if name in more}
    return Generation(mode, Method(**more), Sampling(temp), seed=1, max_tokens=max_tokens, **own)


def keeps_to_schema(text: str) -> bool:
    value = json.loads(text)
    return (
        list(value) == ["name", "kind", "sizes"]
        and isinstance(value["name"], str)
        and len(value["name"]) <= 9
        and value["kind"] in SCHEMA["properties"]["kind"]["enum"]
        and 1 <= len(value["sizes"]) <= 3
        and set(value["sizes"]) <= {True, False, None}
    )


# ---------------------------------------------------------------- what is written
@pytest.mark.parametrize("temp", [0.0, 0.9])
@pytest.mark.parametrize("mode", MODES, ids=str)
def test_every_answer_keeps_to_the_schema(make: PairMaker, mode: dict[str, Any], temp: float) -> None:
    """Guards an author, a hit, a proposal or a review that knows nothing of the grammar."""
    with open_engine(make(), n_slots=3) as engine:
        results = engine.generate(PROMPTS, settings(temp=temp, json_schema=SCHEMA, **mode), RAW)
    assert [result.finish_reason for result in results] == ["stop"] * len(PROMPTS)
    assert all(keeps_to_schema(result.text) for result in results), [result.text for result in results]
    assert len({result.text for result in results}) > 1


@pytest.mark.parametrize("name", PAIRS)
def test_every_memory(make: PairMaker, name: str) -> None:
    """Guards grammars that do not go back where a memory does, and batches that share one."""
    mode = settings(temp=0.8, grammar=DATES, gate="never", review="ratio", tau=0.5, proposals=4)
    with open_engine(make(name), n_slots=4) as engine:
        together = engine.generate(PROMPTS, mode, RAW)
    with open_engine(make(name)) as engine:
        alone = [engine.generate(prompt, mode, RAW) for prompt in PROMPTS]
    for result in [*together, *alone]:
        assert re.fullmatch(r"\d{4}-[01]\d[!?]", result.text)


def test_reviewed_exactly_and_speculated_is_the_leaders_text(make: PairMaker) -> None:
    """Guards a grammar whose state differs between what is proposed, read ahead and written."""
    with open_engine(make()) as engine:
        texts = [
            [engine.generate(prompt, settings(temp=0.7, json_schema=SCHEMA, **mode), RAW).text for prompt in PROMPTS]
            for mode in [*MODES[:2], {"gate": "never", "review": "exact", "proposals": 5}]
        ]
    assert texts[0] == texts[1] == texts[2]


@pytest.mark.parametrize("name", ["llama", "gemma3"])
def test_without_a_grammar_all_is_as_before(make: PairMaker, name: str) -> None:
    """Guards a grammar of one prompt that its neighbours keep to."""
    with open_engine(make(name), n_slots=2) as engine:
        free, limited = settings(max_tokens=30), settings(grammar=DATES)
        alone = engine.generate(PROMPTS[0], free, RAW)
        tickets = [engine.submit(prompt, each, RAW) for prompt, each in zip(PROMPTS, [free, limited], strict=False)]
        results: dict[int, Result] = {}
        while not engine.idle:
            results |= {event.index: event for event in engine.step() if isinstance(event, Result)}
    assert len(tickets) == len(results) == 2
    texts = [result.text for result in results.values()]
    assert alone.text in texts
    assert any(re.fullmatch(r"\d{4}-[01]\d[!?]", text) for text in texts)


def test_the_replay_finds_no_fault(make: PairMaker, tmp_path: Path) -> None:
    """Guards hits and handoffs that are not those of the limited distributions: with a grammar of everything, an
    independent replay must agree with what was written."""
    pair = make()
    mode = settings(grammar="root ::= [^\\x00]*", n=3, k=2, p=0.6, max_tokens=60)
    with open_engine(pair) as engine:
        results = engine.generate(PROMPTS, mode, RAW)
    assert replayed(results, pair, tmp_path).violations == []


# ---------------------------------------------------------------- the reasoning
def thinking_pair(folder: Path, opens: bool) -> Any:
    words = tiny_gguf.plain().with_emphasis("</think>", 1.2).with_emphasis("<think>", 0.6 if opens else 3.0)
    template = (
        tiny_gguf.CHATML.replace("assistant\n{% endif", "assistant\n<think>{% endif") if opens else tiny_gguf.CHATML
    )
    files = [
        tiny_gguf.write_llama(folder / f"{seed}.gguf", seed=seed, chat_template=template, vocabulary=words)
        for seed in (1, 2)
    ]
    return pair_of(*files)


@pytest.mark.parametrize("opens", [True, False], ids=["the template opens it", "the model opens it"])
def test_the_reasoning_is_free(tmp_path: Path, opens: bool) -> None:
    """Guards a grammar that forbids the reasoning, and one that starts in the middle of it."""
    with open_engine(thinking_pair(tmp_path, opens), n_slots=2) as engine:
        results = engine.generate(
            PROMPTS * 3, settings(temp=0.9, grammar=DATES, max_tokens=220, gate="never", review="ratio", proposals=3)
        )
    answers = [result.answer for result in results if result.answer]  # some end inside the reasoning
    assert len(answers) > 3
    assert all(re.fullmatch(r"\d{4}-[01]\d[!?]", answer) for answer in answers)
    assert sum(bool(result.reasoning and result.answer) for result in results) > 2
    assert {result.finish_reason for result in results} <= {"stop", "length"}


# ---------------------------------------------------------------- command line, files, Python
def environment_of(pair: Any, folder: Path, **more: str) -> dict[str, str]:
    return environment((pair.leader.path, pair.draft.path), folder, **more)


def test_from_the_command_line(make: PairMaker, tmp_path: Path) -> None:
    """A schema and a grammar, as texts and as files; a prompt's own in JSON lines; resumed from a checkpoint."""
    env, file = environment_of(make(), tmp_path), tmp_path / "schema.json"
    file.write_text(json.dumps(SCHEMA), "utf-8")
    common = ["--raw", "--seed", "3", "-q", "--max-tokens", "150"]
    for schema in (str(file), json.dumps(SCHEMA)):
        done = run("--json-schema", schema, "--prompt", "wait", *common, env=env)
        assert keeps_to_schema(done.stdout.rstrip("\n")), done.stdout
    (tmp_path / "dates.gbnf").write_text(DATES, "utf-8")
    done = run(
        "--grammar",
        "dates.gbnf",
        "--prompt",
        "wait",
        *common,
        env=env | {"PYTHONPATH": env["PYTHONPATH"]},
        cwd=tmp_path,
    )
    assert re.fullmatch(r"\d{4}-[01]\d[!?]\n", done.stdout)
    lines = jsonl({"prompt": "wait", "json_schema": SCHEMA}, {"prompt": "Hi", "grammar": DATES}, {"prompt": "now"})
    found = records(run("--file", "-", "-o", "-", *common, "--parallel", "2", env=env, stdin=lines).stdout)
    answers = {record["index"]: record["answer"] for record in found}
    assert keeps_to_schema(answers[0])
    assert re.fullmatch(r"\d{4}-[01]\d[!?]", answers[1])
    assert not re.fullmatch(r"\d{4}-[01]\d[!?]", answers[2])


REFUSED = [
    (["--grammar", "root ::= ["], "the grammar cannot be used: unexpected end of input"),
    (["--grammar", "root ::= thing"], "Undefined rule identifier 'thing'"),
    (["--grammar", "x ::= 'a'"], "the grammar cannot be used"),
    (["--grammar", "root ::= root [a]"], "left recursion"),
    (["--grammar", "nothing.gbnf"], "--grammar is 'nothing.gbnf': neither a GBNF grammar nor a file"),
    (["--grammar", " "], "must be a GBNF grammar"),
    (["--json-schema", '{"type": "text"}'], "Invalid type: text"),
    (["--json-schema", '{"a'], "which is not JSON"),
    (["--json-schema", '{"$ref": "#/$defs/x"}'], "/$defs/x"),
    (["--json-schema", '{"$ref": "https://example.org/x"}'], "https://example.org/x"),
    (["--json-schema", "{}", "--grammar", DATES], "give one of them"),
]


@pytest.mark.parametrize(("options", "why"), REFUSED, ids=str)
def test_what_is_no_grammar_is_refused_in_one_line(
    make: PairMaker, tmp_path: Path, options: list[str], why: str
) -> None:
    """Guards llama.cpp's own lines on standard error, and answers without any grammar."""
    done = run(*options, "--prompt", "wait", "--raw", env=environment_of(make(), tmp_path))
    assert done.returncode == 2
    assert why in error_line(done)


def test_a_prompts_own_takes_the_place_of_the_runs(make: PairMaker, tmp_path: Path) -> None:
    """Guards a prompt with a schema of its own that is refused because the run has a grammar."""
    lines = jsonl({"prompt": "wait", "json_schema": {"enum": ["a", "b"]}}, {"prompt": "Hi"})
    env = environment_of(make(), tmp_path)
    own, other = records(run("--file", "-", "-o", "-", "--raw", "-q", "--grammar", DATES, env=env, stdin=lines).stdout)
    assert own["answer"].strip() in ('"a"', '"b"')
    assert re.fullmatch(r"\d{4}-[01]\d[!?]", other["answer"])


def test_a_prompts_own_bad_grammar_fails_alone(make: PairMaker, tmp_path: Path) -> None:
    lines = jsonl({"prompt": "wait", "grammar": "root ::= ["}, {"prompt": "Hi", "grammar": DATES})
    done = run("--file", "-", "-o", "-", "--raw", "-q", env=environment_of(make(), tmp_path), stdin=lines)
    bad, good = records(done.stdout)
    assert bad["finish_reason"] == "error"
    assert "the grammar cannot be used" in bad["error"]
    assert re.fullmatch(r"\d{4}-[01]\d[!?]", good["answer"])


def test_what_a_schema_wants_and_a_grammar_cannot_do_is_told(make: PairMaker, tmp_path: Path) -> None:
    """Guards keywords that are passed over in silence."""
    schema = json.dumps({"type": "array", "items": {"enum": [1, 2]}, "uniqueItems": True, "description": "sizes"})
    done = run("--json-schema", schema, "--prompt", "wait", "--raw", env=environment_of(make(), tmp_path))
    assert done.stderr.count("not all of the JSON schema can be enforced: ") == 1
    assert "uniqueItems" in done.stderr


def test_an_engine_whose_grammar_is_wrong_frees_its_models(make: PairMaker) -> None:
    with pytest.raises(UsageError, match="the grammar cannot be used"):
        Engine(make(), settings=settings(grammar="root ::= ["))


VALUES: list[tuple[dict[str, Any], str]] = [
    ({"type": "integer"}, r"-?\d{1,16}"),
    (
        {"type": "array", "items": {"type": ["integer", "null"]}, "minItems": 1, "maxItems": 1},
        r"\[\s*(null|-?\d+)\s*\]",
    ),
    ({"type": "integer", "minimum": 17, "maximum": 23}, r"1[7-9]|2[0-3]"),
    ({"type": "string", "pattern": "^a.[^b]$"}, r'"a[^"\n\\][^"\nb\\]"|"a.*\\.*"'),
    ({"const": '[^x] "\\'}, re.escape(json.dumps('[^x] "\\'))),
    (
        {"properties": {"properties": {"type": "null"}}, "required": ["properties"]},
        r'\{\s*"properties"\s*:\s*null\s*\}',
    ),
    ({"type": ["boolean", "null"]}, "true|false|null"),
    (
        {"type": "array", "prefixItems": [{"enum": [1]}, {"enum": ["é"]}], "minItems": 2, "items": False},
        r'\[\s*1\s*,\s*"é"\s*\]',
    ),
    ({"$ref": "#/$defs/n", "$defs": {"n": {"type": "boolean"}}}, "true|false"),
    ({"oneOf": [{"const": "a"}, {"const": "b"}]}, '"a"|"b"'),
    ({"type": "string", "format": "date"}, r'"\d{4}-\d\d-\d\d"'),
]


@pytest.mark.parametrize(("schema", "wanted"), VALUES, ids=str)
def test_what_schemas_say_is_kept_to(make: PairMaker, schema: dict[str, Any], wanted: str) -> None:
    """Guards keywords that are passed over in silence, and texts that are no JSON."""
    with open_engine(make()) as engine:
        for seed in range(4):
            text = engine.generate("wait", settings(temp=1.5, json_schema=schema), RAW, seed=seed).text
            json.loads(text)
            assert re.fullmatch(wanted, text.strip()), text


def test_stop_texts_end_an_answer_inside_the_grammar(make: PairMaker) -> None:
    with open_engine(make()) as engine:
        result = engine.generate("wait", settings(grammar=DATES, stop=("-",)), RAW)
    assert re.fullmatch(r"\d{4}", result.text)
    assert result.stopped_by == "-"


def test_the_installed_command_offers_it() -> None:
    assert MODULE[-1] == "gen"
    for command in (["gen"], ["chat"], ["bench"]):
        done = run("--help", env=environment(None, Path("/tmp")), command=[*MODULE[:-1], *command])
        assert "--json-schema" in done.stdout, command


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("grammar", "root ::= " + "(" * 100_000 + '"a"' + ")" * 100_000, "parentheses inside each other"),
        (
            "grammar",
            "\n".join(f"r{i} ::= r{i + 1}" for i in range(400_000)) + '\nroot ::= r0\nr400000 ::= "a"',
            "rules",
        ),
        ("json_schema", '{"$ref": "#"}', "no JSON text keeps to it"),
    ],
    ids=["deep", "long", "endless"],
)
def test_forms_that_end_nowhere_are_refused(make: PairMaker, name: str, text: str, words: str) -> None:
    """Guards a grammar on which llama.cpp's recursion ends the process, and a schema whose answer is always empty."""
    with open_engine(make()) as engine:
        result = engine.generate("wait", settings(**{name: text}), RAW)
    assert result.finish_reason == "error"
    assert words in str(result.error)
