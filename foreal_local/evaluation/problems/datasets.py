"""Problem sets: the bundled one, JSON lines on disk, and known sets from the hub, all as `Problem`.

Knows where a set lies and which columns it has. Does not know who solves the problems or how answers are compared.

    name          repository on the hub        file                     columns
    MATH-500      HuggingFaceH4/MATH-500       test.jsonl               problem, solution, answer, unique_id
    AIME24        HuggingFaceTB/math_tasks     data/aime24/test.jsonl   id, problem, solution, answer
    AMC23         HuggingFaceTB/math_tasks     data/amc23/test.jsonl    id, question, answer (27.0)
    GSM8K         HuggingFaceTB/math_tasks     data/gsm8k/test.jsonl    question, answer (steps, then #### 18)
    GPQA-Diamond  Idavidrein/gpqa (gated)      gpqa_diamond.csv         Record ID, Question, Correct Answer,
                                                                        Incorrect Answer 1 to 3

HuggingFaceTB/math_tasks holds copies of these sets as JSON lines, which need no reader for parquet files.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import random
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from ...documents import Note, bytes_of, name_of
from ...errors import DownloadError, ForealError, UsageError
from ...hub import bundled_dir
from ...hub import explain as explain_hub_error
from ...hub_names import HubName

DEFAULT_SET = "heldout"
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
HOW_TO_ANSWER = r"Please reason step by step, and put your final answer within \boxed{}."
HOW_TO_CHOOSE = r"Please reason step by step, and put the letter of the right choice within \boxed{}."

_QUESTION_KEYS = ("problem", "question", "prompt")
_GPQA_KEYS = ("Question", "Correct Answer", "Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3")

Columns = Mapping[str, Any]
"""One problem as its file has it: what each column, or key of a JSON object, holds."""


@dataclass(frozen=True)
class Problem:
    """A problem and its right answer.

    question: what a model is asked, instruction included
    answer: the right answer, or its letter where there are choices
    choices: those of multiple choice, in the order of their letters
    solution: the reference solution, "" where the set has none
    """

    id: str
    question: str
    answer: str
    kind: Literal["math", "choice"] = "math"
    choices: tuple[str, ...] = ()
    solution: str = ""


@dataclass(frozen=True)
class HubSet:
    """Where a known set lies.

    revision: named where the repository is a collection that may change
    """

    repo: str
    file: str
    revision: str | None = None


_TASKS = "HuggingFaceTB/math_tasks"
_TASKS_REVISION = "3d34f1076f279000b9315583dcdacfd288898283"
HUB_SETS = {
    "MATH-500": HubSet("HuggingFaceH4/MATH-500", "test.jsonl"),
    "AIME24": HubSet(_TASKS, "data/aime24/test.jsonl", _TASKS_REVISION),
    "AMC23": HubSet(_TASKS, "data/amc23/test.jsonl", _TASKS_REVISION),
    "GSM8K": HubSet(_TASKS, "data/gsm8k/test.jsonl", _TASKS_REVISION),
    "GPQA-Diamond": HubSet("Idavidrein/gpqa", "gpqa_diamond.csv"),
}


def load_problems(
    source: str | Path = DEFAULT_SET,
    *,
    limit: int | None = None,
    seed: int = 0,
    offline: bool = False,
    note: Note = lambda text: None,
) -> list[Problem]:
    """The first `limit` problems of a set, all without a limit.

    `source` is "heldout" (the bundled pair's 400 problems), a JSONL file, or a name of HUB_SETS in any spelling
    of case and hyphens. A line of the file has `problem`, `question` or `prompt`, `answer` or a `solution` that
    ends in a box, and may have `id` or `unique_id`. A `prompt` is asked as it stands; the others get the usual
    instruction to box the answer. "-" is standard input, and `note` tells the user that it is waited for. `seed`
    shuffles the choices of multiple choice, for each problem by its place
    in the set. `offline` asks the hub's cache alone. Raises UsageError and DownloadError.
    """
    if limit is not None and limit < 1:
        raise UsageError(f"--limit is {limit}, but must be 1 or more problems")
    path = "-" if source == "-" else str(_path_of(source, offline))
    name, text = name_of(path), _text_of(path, note)
    rows = _csv_rows(name, text) if Path(name).suffix == ".csv" else _json_rows(name, text)
    problems = [
        _choice_problem(row, where, index, seed) if "Question" in row else _problem(row, where, index)
        for index, (where, row) in enumerate(islice(rows, limit))
    ]
    if not problems:
        raise UsageError(f"{name} has no problems: one JSON object on each line is wanted")
    first: dict[str, int] = {}
    for number, problem in enumerate(problems, 1):
        if problem.id in first:
            raise UsageError(f"{name}: problems {first[problem.id]} and {number} both have the id {problem.id!r}")
        first[problem.id] = number
    return problems


# ---- rows ----


def _path_of(source: str | Path, offline: bool) -> Path:
    """The bundled set, a file, or what the hub has under that name."""
    if source == DEFAULT_SET:
        return bundled_dir() / "heldout.jsonl"
    path = Path(os.path.expanduser(source))  # noqa: PTH111  (pathlib's raises where there is no home)
    return path if _can_be_read(path) else _fetch(_hub_set(str(source)), offline)


def _can_be_read(path: Path) -> bool:
    """Whether there is a file of that name, or a pipe as the shell's <(...) makes it."""
    try:
        return path.exists() and not path.is_dir()
    except OSError:  # a name that no file can have
        return False


def _text_of(path: str, note: Note) -> str:
    name = name_of(path)
    try:
        return bytes_of(path, note, "problems").decode("utf-8-sig")
    except OSError as error:
        raise UsageError(f"cannot read the problems of {name}: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise UsageError(f"{name}, line {line} is not UTF-8 text ({error.reason}): convert the file") from None


def _json_rows(name: str, text: str) -> Iterator[tuple[str, Columns]]:
    """Each line's object, and the words for where it stands."""
    for number, line in enumerate(text.split("\n"), 1):
        where = f"{name}, line {number}"
        if line.strip():
            try:
                row = json.loads(line.lstrip("\ufeff"))
            except (ValueError, RecursionError) as error:
                raise UsageError(f"{where} is not JSON ({error}): one object on each line is wanted") from error
            if not isinstance(row, dict):
                raise UsageError(f"{where} is {type(row).__name__}, but must be an object with a problem and an answer")
            if "Question" in row:
                _require_choices(row, where)
            yield where, row


def _csv_rows(name: str, text: str) -> Iterator[tuple[str, Columns]]:
    number = 0
    try:
        for number, row in enumerate(csv.DictReader(io.StringIO(text, newline="")), 1):
            where = f"{name}, row {number}"
            _require_choices(row, where)
            yield where, row
    except csv.Error as error:
        raise UsageError(f"{name}, row {number + 1} is no CSV: {error}") from None


def _require_choices(row: Columns, where: str) -> None:
    missing = [key for key in _GPQA_KEYS if not isinstance(row.get(key), str) or not row[key].strip()]
    if missing:
        raise UsageError(f"{where} has no '{missing[0]}': multiple choice has the columns {', '.join(_GPQA_KEYS)}")


def _problem(row: Columns, where: str, index: int) -> Problem:
    key = next((key for key in _QUESTION_KEYS if isinstance(row.get(key), str) and row[key].strip()), None)
    if key is None:
        raise UsageError(f"{where} has no problem: one of the keys {', '.join(_QUESTION_KEYS)} must be a text")
    solution = str(row.get("solution") or "")
    answer = _answer_text(row.get("answer"))
    if "####" in answer:  # GSM8K: the steps, then the answer
        solution, _, answer = answer.rpartition("####")
        solution = f"{solution}#### {answer.strip()}"
    answer = answer.strip() or last_boxed(solution) or ""
    if not answer:
        raise UsageError(f"{where} has no answer: give `answer`, or a `solution` that ends in \\boxed{{...}}")
    question = row[key].strip()
    if key != "prompt" and "\\boxed" not in question:
        question = f"{question}\n\n{HOW_TO_ANSWER}"
    return Problem(_id(row, index), question, answer, solution=solution)


def _choice_problem(row: Columns, where: str, index: int, seed: int) -> Problem:
    choices = [row[key].strip() for key in _GPQA_KEYS[1:]]
    right = choices[0]
    random.Random(f"{seed}/{index}").shuffle(choices)
    listed = "\n".join(f"({letter}) {choice}" for letter, choice in zip(LETTERS, choices, strict=False))
    question = f"{row['Question'].strip()}\n\n{listed}\n\n{HOW_TO_CHOOSE}"
    return Problem(_id(row, index), question, LETTERS[choices.index(right)], "choice", tuple(choices))


def _answer_text(answer: Any) -> str:
    """An answer as text: 27.0 is 27, and the only one of a list is taken."""
    if isinstance(answer, list) and len(answer) == 1:
        answer = answer[0]
    if isinstance(answer, float) and not math.isfinite(answer):
        return ""
    if isinstance(answer, float) and answer.is_integer():
        answer = int(answer)
    return str(answer) if isinstance(answer, str | int | float) else ""


def _id(row: Columns, index: int) -> str:
    ids = (row.get(key) for key in ("unique_id", "id", "Record ID"))
    return next((str(value) for value in ids if value not in (None, "")), str(index))


def last_boxed(text: str) -> str | None:
    r"""What stands in the last \boxed{...} (or \fbox, \framebox) that is not empty, its own braces balanced.

    None without a box. A box that is not closed gives all that follows it, its opening brace included.
    """
    for box in reversed(list(re.finditer(r"\\(?:boxed|fbox|framebox)\s*", text))):
        content = _braced(text[box.end() :])
        if content.strip():
            return content.strip()
    return None


def _braced(text: str) -> str:
    if not text.startswith("{"):
        bare = re.match(r"-?(?:\d[\d.,]*|\\?[A-Za-z])(?![A-Za-z])", text)  # \boxed 5
        return bare[0].rstrip(".,") if bare else ""
    depth = 0
    for mark in re.finditer(r"\\.|[{}]", text, re.S):
        depth += {"{": 1, "}": -1}.get(mark[0], 0)
        if depth == 0 and mark[0] == "}":
            return text[1 : mark.start()]
    return text if text.strip("{} \n") else ""


# ---- the hub ----


def _hub_set(name: str) -> HubSet:
    known = {_plain(known): known for known in HUB_SETS}
    if _plain(name) in known:
        return HUB_SETS[known[_plain(name)]]
    near = get_close_matches(_plain(name), known, n=1)
    hint = f"; did you mean {known[near[0]]}?" if near else ""
    names = ", ".join([DEFAULT_SET, *HUB_SETS])
    raise UsageError(
        f"no problems '{name}': there is no such file of JSON lines, and no set of that name{hint} (known: {names})"
    )


def _plain(name: str) -> str:
    """A set's name without what people write differently: case, hyphens, 2024 for 24."""
    return re.sub(r"[-_ ]|20(?=2\d)", "", name.lower())


def _fetch(wanted: HubSet, offline: bool) -> Path:
    """The set's file from the hub or its cache, by the rules of `hub`: HF_TOKEN, HF_ENDPOINT, offline mode."""
    from huggingface_hub import constants, hf_hub_download

    offline = offline or bool(constants.HF_HUB_OFFLINE)
    try:
        path = hf_hub_download(
            wanted.repo, wanted.file, repo_type="dataset", revision=wanted.revision, local_files_only=offline
        )
    except Exception as error:
        raise _explain(error, wanted, offline) from error
    return Path(path)


def _explain(error: Exception, wanted: HubSet, offline: bool) -> ForealError:
    """What `hub` says of a model in the words of a data set, where they differ."""
    from huggingface_hub import constants, errors

    page, otherwise = f"{constants.ENDPOINT}/datasets/{wanted.repo}", "give the path of a JSONL file"
    if isinstance(error, errors.GatedRepoError):
        return DownloadError(f"{wanted.repo} is gated: accept its conditions at {page} and set HF_TOKEN to your token")
    if offline and isinstance(error, errors.LocalEntryNotFoundError):
        missing = f"offline, and the cache {constants.HF_HUB_CACHE} has no {wanted.file} of {wanted.repo}"
        return DownloadError(f"{missing}; get it once with a connection, or {otherwise}")
    gone = (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.EntryNotFoundError)
    if isinstance(error, gone) and not isinstance(error, errors.LocalEntryNotFoundError):
        return DownloadError(
            f"there is no {wanted.file} at {page} any more: get the problems elsewhere and {otherwise}"
        )
    return explain_hub_error(error, HubName(wanted.repo, file=wanted.file))
