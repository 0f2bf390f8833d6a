"""What is asked: PROMPT, --prompt, --prompt-file, --file and standard input, as prompts or as the message of a chat.

A document on standard input stands before each prompt of the command line, as in simonw/llm and ollama.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..documents import STDIN, piped_in, read_stdin, read_whole, with_question
from ..errors import UsageError

if TYPE_CHECKING:
    from ..config import Generation, Prompting
    from ..documents import Note
    from ..results import Prompt

_NOTHING = (
    "nothing to answer: give PROMPT in quotes, --prompt TEXT, --prompt-file FILE, --file FILE (a prompt on each line), "
    "or a text on standard input; --help shows all"
)


def prompt_argument(function: Callable[..., Any]) -> Callable[..., Any]:
    """The argument PROMPT. Any number of words are taken, so that a message can say that they need quotes."""
    return click.argument("words", metavar="[PROMPT]", nargs=-1)(function)


def prompts_of(
    values: dict[str, Any], settings: Generation, prompting: Prompting, note: Note, with_file: bool = True
) -> list[Prompt]:
    """The prompts of foreal-gen's options, in order: the command line's, then those of --prompt-file and of --file.

    with_file: else those of --file are left out, for somebody who reads them one by one
    """
    from ..batch.prompts import read_prompts, with_unique_ids
    from ..results import Prompt

    file = file_of(values)
    asked = [*_word_of(values["words"]), *values["prompt"]]
    files: list[str] = list(values["prompt_file"])
    _refuse_another(values, file)
    if not (asked or files or file):
        return [Prompt(_whole_input(note, values["quiet"]))]
    n_dashes = [*asked, *files, file].count("-")
    if n_dashes > 1:
        raise UsageError(f"standard input can be read once, and - is given {n_dashes} times")
    document = piped_in(note) if (asked or files) and not n_dashes else ""
    if document and not values["quiet"]:
        each = "each" if len(asked) + len(files) > 1 else "the"
        note(f"standard input ({len(document)} characters) is put before {each} prompt")
    texts = [(read_stdin(note) if text == "-" else text, "") for text in asked]
    _refuse_nothing(texts, document)
    texts += [(read_stdin(note), STDIN) if path == "-" else (read_whole(path), path) for path in files]
    prompts = [Prompt(with_question(document, text), where=where) for text, where in texts]
    if file and with_file:
        prompts += read_prompts(file, settings, prompting, note)
    return with_unique_ids(prompts, file or "--prompt")


def _refuse_nothing(texts: list[tuple[str, str]], document: str) -> None:
    """UsageError for an empty text, as a variable of a shell that is not set makes it; beside a document it is one."""
    if not document and not all(text.strip() for text, _ in texts):
        raise UsageError("a prompt is empty: there is nothing to answer")


def _refuse_another(values: dict[str, Any], file: str | None) -> None:
    """UsageError where PROMPT stands beside another prompt: it is rarely meant as one more."""
    given = {"--prompt": values["prompt"], "--prompt-file": values["prompt_file"], "--file": file}
    for option, value in given.items():
        if values["words"] and value:
            raise UsageError(
                f"PROMPT ({_shortened(values['words'][0])!r}) stands beside {option}: leave one out, or give --prompt "
                "for each; several words need quotes"
            )


def message_of(values: dict[str, Any], note: Note, with_input: bool) -> str:
    """What a chat is asked first: PROMPT, with standard input before it where it is not a terminal.

    with_input: standard input is a document; otherwise it has the messages that follow
    """
    text = next(iter(_word_of(values["words"])), None)
    if text is None:
        text = _refuse_commands(read_stdin(note))
        return text if values["quiet"] else _told(text, "message", note)
    if text == "-":
        return read_stdin(note)
    document = piped_in(note) if with_input else ""
    _refuse_nothing([(text, "")], document)
    return with_question(document, text)


def _word_of(words: tuple[str, ...]) -> list[str]:
    """PROMPT, where it is given. UsageError for several words, and for the name of a file."""
    if len(words) > 1:
        raise UsageError(f"PROMPT is {len(words)} words: put quotes around it, as in '{_shortened(' '.join(words))}'")
    for word in words:
        if word != "-" and not any(map(str.isspace, word)) and _is_file(word):
            raise UsageError(
                f"{word} is a file: `< {word}` asks what is in it, foreal-gen --prompt-file too, and foreal-gen --file "
                "what is in each of its lines; put quotes around a question"
            )
    return list(words)


def _is_file(name: str) -> bool:
    try:
        return Path(name).is_file()
    except (OSError, ValueError):
        return False


def _shortened(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."


def file_of(values: dict[str, Any]) -> str | None:
    """The file whose lines are prompts; "-" for --lines."""
    if not values["lines"]:
        file: str | None = values["file"]
        return file
    if values["file"] not in (None, "-"):
        raise UsageError(f"--lines reads standard input, and --file names {values['file']}: leave one out")
    return "-"


def _whole_input(note: Note, quiet: bool) -> str:
    """Standard input as the only prompt."""
    if sys.stdin is None:
        raise UsageError(_NOTHING)
    if sys.stdin.isatty():
        return read_stdin(note)
    if text := piped_in(note):
        return text if quiet else _told(text, "prompt", note)
    raise UsageError(_NOTHING)


def _told(text: str, what: str, note: Note) -> str:
    """The text; where it has several lines it is said that they are one prompt."""
    from ..batch.json_lines import is_object

    n_lines = text.count("\n") + 1
    if n_lines > 1:
        kind = " of JSON" if is_object(text.split("\n")[0]) else ""
        note(f"standard input is one {what} of {n_lines} lines{kind}; --lines makes a {what} of each")
    return text


def _refuse_commands(text: str) -> str:
    """The text of a message; UsageError where its lines are commands of the chat."""
    from ..chat.commands import NAMES

    for number, line in enumerate(text.split("\n"), 1):
        if line.split(" ")[0] in NAMES:
            raise UsageError(
                f"{STDIN}:{number}: {_shortened(line)} is a command of the chat, and standard input is one message: "
                "--lines reads a message or a command from each line"
            )
    return text
