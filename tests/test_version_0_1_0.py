"""What version 0.1.0 wrote is resumed: its outputs, traces, checkpoints and chats (tests/data/v0.1.0, made by it)."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from commands import environment, records, run
from fakes import FakePair
from runs import SETTINGS, SPECULATIVE, new_sequence, outcome, run_all

from foreal_local.chat.conversation import Conversation
from foreal_local.config import SETTINGS as TABLE
from foreal_local.config import Generation, Method, ModelSettings, Pair, Prompting, Runtime, Sampling, from_older
from foreal_local.digest import settings_hash
from foreal_local.engine import Engine
from foreal_local.hub import bundled_dir
from foreal_local.method.roles import Role
from foreal_local.results import Prompt, Result
from foreal_local.runtime.gguf_file import fingerprint
from foreal_local.storage.checkpoints import Checkpoints
from foreal_local.storage.saved_sequence import as_dict, from_dict, settings_from_dict
from foreal_local.storage.session import read_session

DATA = Path(__file__).parent / "data" / "v0.1.0"
MODES = ["foreal", "leader", "cue", "speculative"]
SESSIONS = sorted(path for path in DATA.glob("*.session") if path.stem != "chat")


def bundled() -> Pair:
    return Pair(*(ModelSettings(bundled_dir() / f"tiny-{role}.gguf") for role in Role))


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine(bundled(), runtime=Runtime(ctx_size=512, threads=1)) as engine:
        yield engine


def settings_of(record: dict[str, Any]) -> Generation:
    method, sampling = from_older(record, Method), from_older(record, Sampling)
    own = from_older(record, Generation) | {"stop": tuple(record["stop"])}
    return Generation(method=Method(**method), sampling=Sampling(**sampling), **own)


# ---------------------------------------------------------------- outputs
@pytest.mark.parametrize("mode", MODES)
def test_its_records_have_the_hash_that_is_made_today(mode: str) -> None:
    """Guards a new setting, or a changed default, that makes every old output be written again."""
    models = {role: fingerprint(getattr(bundled(), str(role)).path) for role in Role}
    for record in records((DATA / f"{mode}.jsonl").read_text("utf-8")):
        assert settings_hash(record["prompt"], settings_of(record), Prompting(), models) == record["settings_hash"]


def test_a_new_setting_at_another_value_is_told_apart() -> None:
    """Guards a setting that is left out of the hash whatever it is."""
    models = dict.fromkeys(Role, "x")
    hashes = {
        settings_hash("So?", Generation(mode, Method(gate=gate), seed=1), Prompting(), models)
        for mode in ("foreal", "cue")
        for gate in ("random", "always", "never")
    }
    assert len(hashes) == 6
    alone = {
        settings_hash("So?", Generation("leader", Method(gate=gate), seed=1), Prompting(), models)
        for gate in ("random", "never")
    }
    assert len(alone) == 1, "a mode without this setting"


def test_what_a_file_does_not_name_is_not_todays_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards a default that changes and takes the meaning of old files along."""
    monkeypatch.setitem(TABLE, "gate", replace(TABLE["gate"], default="always", was="random"))
    values = json.loads(json.dumps(as_dict(new_sequence(0))))["settings"]
    del values["method"]["gate"]
    assert settings_from_dict(values).method.gate == "random"


@pytest.mark.parametrize("mode", MODES)
def test_its_output_stands(mode: str, tmp_path: Path) -> None:
    """Guards --resume that begins again."""
    out = tmp_path / "out.jsonl"
    shutil.copy(DATA / f"{mode}.jsonl", out)
    env = environment(None, tmp_path, FOREAL_CTX_SIZE="512")
    more = ["--mode", mode, "--seed", "4", "-n", "4", "-k", "2", "--max-tokens", "60", "-o", out, "--resume"]
    done = run("--file", DATA / "prompts.txt", *more, env=env)
    assert done.returncode == 0, done.stderr
    assert "3 of 3 prompts are done already" in done.stderr
    assert out.read_bytes() == (DATA / f"{mode}.jsonl").read_bytes()


# ---------------------------------------------------------------- checkpoints
@pytest.mark.parametrize("path", SESSIONS, ids=lambda path: path.stem.partition(".")[0])
def test_its_checkpoints_are_resumed(path: Path, engine: Engine, tmp_path: Path) -> None:
    """Guards a response that begins again, or whose flow does not find its place in the open sentence."""
    saved = read_session(path, engine.loaded.identity).sequence
    assert saved.open_tokens(), "it was stopped inside a sentence"
    shutil.copy(path, tmp_path)
    notes: list[str] = []
    assert saved.settings.method.boundaries == "whole-blocks", "what robust was then"
    asked = replace(saved.settings, method=replace(saved.settings.method, boundaries="robust"))
    prompt = Prompt((bundled_dir() / "demo.txt").read_text("utf-8").splitlines()[0], saved.id, asked, 0)
    checkpoints = Checkpoints(tmp_path, 1, notes.append)
    *_, result = engine.run([prompt], asked, None, checkpoints)
    assert isinstance(result, Result)
    assert [note for note in notes if "goes on after" in note or "resume" in note]
    assert result.error is None
    n = len(saved.tokens)
    assert result.tokens[:n] == [
        replace(token, half=new.half) for token, new in zip(saved.tokens, result.tokens[:n], strict=True)
    ]
    assert len(result.tokens) > n


def as_version_1(values: dict[str, Any]) -> dict[str, Any]:
    """What version 0.1.0 would have written of a sequence."""
    tokens = dict(values["tokens"])
    tokens["given"] = tokens.pop("inserted")
    half, n = tokens.pop("half"), len(tokens["id"])
    del tokens["n_drawn"]
    method = {name: value for name, value in values["settings"]["method"].items() if name != "gate"}
    gone = ("answers", "taken_back", "n_drawn", "tokens", "settings")
    return {name: value for name, value in values.items() if name not in gone} | {
        "tokens": tokens,
        "settings": values["settings"] | {"method": method},
        "half_character": half.get(str(n - 1), ""),
        "frontier_top1": {},
    }


@pytest.mark.parametrize("settings", [one for one in (*SETTINGS, SPECULATIVE) if "gate" not in one], ids=str)
def test_answers_are_inferred_as_they_would_have_been_recorded(settings: dict[str, Any]) -> None:
    """Guards an old response that goes on otherwise than it would have: at every step of some responses."""
    n_inside = 0
    for index in range(3):
        sequence, scheduler = new_sequence(index, seed=3, **settings), FakePair(1, truncation="remove").scheduler()
        scheduler.add(sequence)
        while not scheduler.idle:
            scheduler.step()
            if sequence.finished:
                continue
            scheduler.save(sequence)
            values = json.loads(json.dumps(as_dict(sequence)))
            old = from_dict(as_version_1(values))
            if settings is not SPECULATIVE and old.open_tokens():
                assert old.answers == sequence.answers
            n_inside += bool(old.open_tokens())
            if len(sequence.tokens) % 7 == 3:
                run_all(FakePair(2, truncation="remove").scheduler(), [old])
                whole = new_sequence(index, seed=3, **settings)
                run_all(FakePair(2, truncation="remove").scheduler(), [whole])
                assert outcome(old) == outcome(whole)
    assert n_inside > 20


# ---------------------------------------------------------------- chats
def test_its_chats_are_resumed(engine: Engine) -> None:
    """Guards a conversation that cannot be opened any more."""
    conversation = Conversation(engine)
    conversation.load(DATA / "chat.session")
    assert [message.role for message in conversation.messages] == ["user", "assistant"] * 2
    assert conversation.settings == Generation(
        method=Method(n=4, k=2, proposals=5), sampling=Sampling(0.6), seed=5, max_tokens=60
    )
    *_, result = conversation.ask("And how many are there together?")
    assert isinstance(result, Result)
    assert result.error is None
    assert len(conversation.messages) == 6
