"""Problem sets: the bundled one, files on disk, and files of the hub's schema by the real library from a stand-in."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hub_server import HubServer

from foreal_local.errors import UsageError
from foreal_local.evaluation.problems.datasets import HOW_TO_ANSWER, HUB_SETS, Problem, last_boxed, load_problems

ROOT = Path(__file__).parent.parent
CLOSED = "http://127.0.0.1:9"  # nothing listens here


def lines(*rows: dict[str, Any]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def gpqa(*rows: tuple[str, ...]) -> bytes:
    """A file of GPQA's columns, in another order and with more of them, as the real one has."""
    keys = ("Record ID", "Subdomain", "Incorrect Answer 2", "Question", "Correct Answer")
    keys += ("Incorrect Answer 1", "Incorrect Answer 3", "Explanation")
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(keys)
    writer.writerows(rows)
    return text.getvalue().encode()


def gpqa_row(n: int) -> tuple[str, ...]:
    return (f"rec{n}", "Optics", f"{n}2 m", f"How far,\nin m, is {n}?", f" {n}0 m\n", f"{n}1 m", f"{n}3 m", "By hand")


FILES = {
    "MATH-500": lines(
        {
            "problem": "What is $1+1$?",
            "solution": r"It is $\boxed{2}$.",
            "answer": "2",
            "subject": "Algebra",
            "level": 1,
            "unique_id": "test/algebra/1.json",
        },
        {
            "problem": "And $1/2$?",
            "solution": r"\boxed{\frac12}",
            "answer": r"\frac{1}{2}",
            "unique_id": "test/algebra/2.json",
        },
    ),
    "AIME24": lines({"id": 60, "problem": "Find $m+n$.", "solution": r"$\framebox{204}$", "answer": "204", "url": "x"}),
    "AMC23": lines({"id": 0, "question": "How many miles?", "answer": 27.0, "url": "x"}),
    "GSM8K": lines({"question": "How many eggs?", "answer": "9 * 2 = <<9*2=18>>18 eggs.\n#### 1,018"}),
    "GPQA-Diamond": gpqa(*(gpqa_row(n) for n in range(1, 9))),
}


# ---- on disk ----


def write(folder: Path, content: bytes | str) -> Path:
    path = folder / "problems.jsonl"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_the_bundled_set_is_asked_as_it_stands() -> None:
    """Guards an instruction added to problems that the bundled pair was trained on without any."""
    problems = load_problems()
    first = json.loads((ROOT / "models" / "heldout.jsonl").read_text("utf-8").partition("\n")[0])
    assert len(problems) == 400
    assert problems[0] == Problem(first["id"], first["prompt"], first["answer"])
    assert load_problems("heldout", limit=7, seed=5) == problems[:7]


@pytest.mark.parametrize(
    ("row", "wanted"),
    [
        ({"prompt": "How many?", "answer": 3}, Problem("0", "How many?", "3")),
        ({"problem": "Why?", "answer": "x", "id": 7}, Problem("7", f"Why?\n\n{HOW_TO_ANSWER}", "x")),
        ({"question": r"Why? Use \boxed{}.", "answer": "x"}, Problem("0", r"Why? Use \boxed{}.", "x")),
        (
            {"prompt": "?", "solution": r"\boxed{1} or rather $\boxed{\frac{1}{2}}$."},
            Problem("0", "?", r"\frac{1}{2}", solution=r"\boxed{1} or rather $\boxed{\frac{1}{2}}$."),
        ),
        ({"prompt": "?", "answer": "", "solution": r"\boxed{4}"}, Problem("0", "?", "4", solution=r"\boxed{4}")),
        ({"prompt": "?", "answer": 0.5}, Problem("0", "?", "0.5")),
        ({"prompt": "?", "answer": ["27.0"]}, Problem("0", "?", "27.0")),
        ({"prompt": "?", "answer": "a\n#### 18"}, Problem("0", "?", "18", solution="a\n#### 18")),
        ({"prompt": "?", "answer": 0, "unique_id": "u", "id": 1}, Problem("u", "?", "0")),
    ],
)
def test_a_line(row: dict[str, Any], wanted: Problem, tmp_path: Path) -> None:
    """Guards a key, a kind of answer or an instruction that is lost: 0 is an answer, 27.0 counts apples."""
    assert load_problems(write(tmp_path, lines(row))) == [wanted]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no problems"),
        ('\n{"prompt": "x"', "line 2 is not JSON"),
        ("[1]", "line 1 is list, but must be an object"),
        ('{"text": "x", "answer": "1"}', "line 1 has no problem: one of the keys problem, question, prompt"),
        ('{"prompt": ["x"], "answer": "1"}', "line 1 has no problem"),
        ('{"prompt": "x"}', "line 1 has no answer: give `answer`"),
        ('{"prompt": "x", "solution": "It is 5."}', "line 1 has no answer"),
        (b"\xff\xfe{", "line 1 is not UTF-8"),
    ],
)
def test_a_line_that_cannot_be_used(text: bytes | str, message: str, tmp_path: Path) -> None:
    """Guards a traceback, or a problem that is left out in silence, for a mistake in a user's file."""
    path = write(tmp_path, text)
    with pytest.raises(UsageError, match=message) as caught:
        load_problems(path)
    assert str(path) in str(caught.value)


def test_a_limit_stops_before_later_mistakes(tmp_path: Path) -> None:
    """Guards a limit that is applied after everything was read, and one that leaves nothing."""
    path = write(tmp_path, '{"prompt": "a", "answer": "1"}\r\n{"prompt": "b\u2028c", "answer": "2"}\n{oops')
    assert [problem.question for problem in load_problems(path, limit=2)] == ["a", "b\u2028c"]
    with pytest.raises(UsageError, match="limit is 0, but must be 1 or more"):
        load_problems(path, limit=0)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("MATH-50", "did you mean MATH-500?"),
        ("nope.jsonl", "no such file"),
        ("x/y", "known: heldout, MATH-500, AIME24"),
    ],
)
def test_an_unknown_name(name: str, hint: str) -> None:
    """Guards a request to the hub for a typo, and a message that does not say what there is."""
    with pytest.raises(UsageError) as caught:
        load_problems(name)
    assert f"no problems '{name}'" in str(caught.value)
    assert hint in str(caught.value)


@pytest.mark.parametrize(
    ("text", "content"),
    [
        (r"\boxed{1} \boxed{\frac{\sqrt{2}}{3}}", r"\frac{\sqrt{2}}{3}"),
        (r"\boxed{\{1, 2\}}, put in \boxed{}", r"\{1, 2\}"),
        (r"\boxed{\left\{ x \mid x > 0 \right\}}", r"\left\{ x \mid x > 0 \right\}"),
        (r"so $\boxed 5$.", "5"),
        (r"\fbox{3}", "3"),
        (r"use \boxed and nothing else", None),
        (r"\boxed{12", "{12"),
        ("none", None),
    ],
)
def test_boxes(text: str, content: str | None) -> None:
    """Guards braces inside a box that end it early, or a set's braces that are counted."""
    assert last_boxed(text) == content


# ---- multiple choice ----


def choices_of(folder: Path, seed: int, limit: int | None = None) -> list[Problem]:
    path = folder / "gpqa_diamond.csv"
    path.write_bytes(FILES["GPQA-Diamond"])
    return load_problems(path, seed=seed, limit=limit)


def test_choices_are_listed_and_the_letter_is_right(tmp_path: Path) -> None:
    """Guards a shuffle that loses the right answer, and a prompt that lists another order than is graded."""
    problems = choices_of(tmp_path, seed=1)
    for n, problem in enumerate(problems, 1):
        assert problem.kind == "choice"
        assert problem.id == f"rec{n}"
        assert problem.choices["ABCD".index(problem.answer)] == f"{n}0 m"
        assert sorted(problem.choices) == [f"{n}{i} m" for i in range(4)]
        listed = "\n".join(f"({letter}) {choice}" for letter, choice in zip("ABCD", problem.choices, strict=True))
        assert problem.question.startswith(f"How far,\nin m, is {n}?\n\n{listed}\n\n")
        assert "letter" in problem.question
    assert len({problem.answer for problem in problems}) > 1, "always the same letter"


def test_choices_are_shuffled_by_seed_and_place(tmp_path: Path) -> None:
    """Guards an order that depends on the limit or on the process, or not on the seed."""
    problems = choices_of(tmp_path, seed=1)
    assert choices_of(tmp_path, seed=1, limit=3) == problems[:3]
    assert choices_of(tmp_path, seed=2) != problems
    assert [problem.answer for problem in problems] == list("BCDCCDAC")  # as in every process and Python


def test_a_file_of_other_columns(tmp_path: Path) -> None:
    """Guards a KeyError for a csv file that is none of GPQA's."""
    (tmp_path / "x.csv").write_text("Question,Answer\nWhy?,B\n")
    with pytest.raises(
        UsageError, match="row 1 has no 'Correct Answer': multiple choice has the columns Question, Correct"
    ):
        load_problems(tmp_path / "x.csv")


# ---- the hub, with the real library in a process of its own: it reads the environment when imported ----

CHILD = """
import json, sys
from dataclasses import asdict
from foreal_local.errors import ForealError
from foreal_local.evaluation.problems.datasets import load_problems
offline, *names = sys.argv[1:]
for name in names:
    try:
        found = load_problems(name, seed=1, offline=offline == "offline")
        print(json.dumps([[asdict(problem) for problem in found], None, ""]), flush=True)
    except ForealError as error:
        print(json.dumps([None, type(error).__name__, str(error)]), flush=True)
"""


class Outcome(NamedTuple):
    problems: list[dict[str, Any]] | None
    error: str | None
    message: str


Load = Callable[..., list[Outcome]]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Runs `load_problems` for some names against a hub, with one cache for the whole test."""

    def run(url: str, *names: str, offline: bool = False, **env: str) -> list[Outcome]:
        clean = {key: value for key, value in os.environ.items() if not key.upper().startswith(("HF_", "HUGGING"))}
        clean |= {"PYTHONPATH": str(ROOT), "HF_HOME": str(tmp_path / "hf"), "HF_ENDPOINT": url, **env}
        clean |= {"NO_PROXY": "127.0.0.1", "HF_HUB_DISABLE_TELEMETRY": "1"}
        command = [sys.executable, "-c", CHILD, "offline" if offline else "online", *names]
        done = subprocess.run(command, env=clean, cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        outcomes = [Outcome(*json.loads(line)) for line in done.stdout.splitlines()]
        assert not any("\n" in outcome.message for outcome in outcomes), "an error is one line"
        return outcomes

    return run


@pytest.fixture
def server() -> Iterator[HubServer]:
    """All known sets. The stand-in takes the first two parts of a path for the repository: datasets/OWNER."""
    repos: dict[str, dict[str, bytes]] = {}
    for name, wanted in HUB_SETS.items():
        files = repos.setdefault(f"datasets/{wanted.repo.split('/')[0]}", {})
        files[f"{wanted.revision or 'main'}/{wanted.file}"] = FILES[name]
    with HubServer(repos, commit=HUB_SETS["AMC23"].revision or "") as running:
        yield running


def test_every_known_set_loads(server: HubServer, load: Load) -> None:
    """Guards the names of files and columns; a second run and offline mode ask for no content again."""
    names = ["math500", "AIME2024", "amc_23", "gsm8k", "gpqa-diamond"]
    math, aime, amc, gsm, choice = (outcome.problems or [] for outcome in load(server.url, *names))
    one = Problem("test/algebra/1.json", f"What is $1+1$?\n\n{HOW_TO_ANSWER}", "2", solution=r"It is $\boxed{2}$.")
    assert math[0] == json.loads(json.dumps(asdict(one)))
    assert (math[1]["id"], math[1]["answer"]) == ("test/algebra/2.json", r"\frac{1}{2}")
    assert (aime[0]["id"], aime[0]["answer"]) == ("60", "204")
    assert (amc[0]["id"], amc[0]["answer"]) == ("0", "27")
    assert (gsm[0]["id"], gsm[0]["answer"]) == ("0", "1,018")
    assert gsm[0]["solution"].endswith("#### 1,018")
    assert (len(choice), choice[0]["id"], choice[0]["kind"]) == (8, "rec1", "choice")
    assert len(server.bodies()) == 5

    again = load(server.url, *names)
    assert len(server.bodies()) == 5
    server.log.clear()
    assert load(server.url, *names, offline=True) == again
    assert load(server.url, *names, HF_HUB_OFFLINE="1") == again
    assert server.log == []


def test_no_connection(server: HubServer, load: Load) -> None:
    """Guards a bench that cannot go on without a network although its problems are in the cache."""
    (before,) = load(server.url, "AMC23")
    cached, missed = load(CLOSED, "AMC23", "GSM8K")
    assert cached == before
    assert missed.error == "DownloadError"
    assert CLOSED in missed.message
    assert "check the connection" in missed.message
    (offline,) = load(server.url, "GSM8K", offline=True)
    assert offline.error == "DownloadError"
    assert "has no data/gsm8k/test.jsonl of HuggingFaceTB/math_tasks; get it once with a connection" in offline.message


def test_a_gated_set(server: HubServer, load: Load) -> None:
    """Guards a refusal that does not say where the conditions are accepted and which variable holds the token."""
    server.gated["datasets/Idavidrein"] = "hf_right"
    (stranger,) = load(server.url, "GPQA-Diamond")
    (right,) = load(server.url, "GPQA-Diamond", HF_TOKEN="hf_right")
    assert stranger.error == "DownloadError"
    assert f"gated: accept its conditions at {server.url}/datasets/Idavidrein/gpqa" in stranger.message
    assert "HF_TOKEN" in stranger.message
    assert len(right.problems or []) == 8


@pytest.mark.parametrize("gone", ["repository", "file"])
def test_a_set_that_was_taken_away(gone: str, server: HubServer, load: Load) -> None:
    """Guards advice about GGUF files where a data set is missing."""
    if gone == "repository":
        del server.repos["datasets/HuggingFaceH4"]
    else:
        server.repos["datasets/HuggingFaceH4"].clear()
    (outcome,) = load(server.url, "MATH-500")
    assert outcome.error == "DownloadError"
    assert "no test.jsonl at" in outcome.message
    assert f"{server.url}/datasets/HuggingFaceH4/MATH-500" in outcome.message
    assert "give the path of a JSONL file" in outcome.message


def test_import_is_light() -> None:
    """Guards `foreal --help` and the bundled set, which must not wait for the hub's library."""
    code = "import sys; from foreal_local.evaluation.problems.datasets import load_problems; load_problems(limit=1); "
    code += "print('huggingface_hub' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
