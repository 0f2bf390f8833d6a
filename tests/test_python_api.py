"""The package as Python users see it: what can be asked, settings by name, and what is said of mistakes."""

from __future__ import annotations

import ast
import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typed_api
from commands import ROOT
from real.models import Files, TinyModels

import foreal_local
from foreal_local import loading
from foreal_local.config import Generation, Method, Pair, Prompting, Runtime
from foreal_local.engine import Engine
from foreal_local.errors import DownloadError, ModelFileError, UsageError
from foreal_local.method.roles import Role
from foreal_local.results import Prompt, Result

BRIEF = Generation("leader", Method(), seed=1, max_tokens=3)


@pytest.fixture(scope="module")
def engine(chat_pair: Files) -> Iterator[Engine]:
    with Engine(Pair(*chat_pair), runtime=Runtime(ctx_size=256, threads=1), settings=BRIEF) as engine:
        yield engine


# ---------------------------------------------------------------- the package
def fresh(code: str) -> str:
    """What a new interpreter prints."""
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60).stdout.strip()


def test_importing_the_package_loads_nothing_else() -> None:
    """Guards an import that takes half a second, for a name that may never be used."""
    code = """
import sys, time
before, started = set(sys.modules), time.process_time()
import foreal_local
seconds = time.process_time() - started  # of its own: others keep a processor busy, too
print(seconds, *(set(sys.modules) - before))
"""
    tries = [fresh(code).split() for _ in range(3)]
    assert min(float(seconds) for seconds, *_ in tries) < 0.05
    names = set(tries[0][1:])
    assert not {name for name in names if name.partition(".")[0] in ("numpy", "llama_cpp", "asyncio")}
    assert not {name for name in names if name.startswith("foreal_local.")}


def test_every_public_name_is_there_and_listed() -> None:
    """Guards a name that is in one of the package's three lists only: editors, `import *` and users read one each."""
    assert set(foreal_local.__all__) <= set(dir(foreal_local))
    code = f"import foreal_local; print({{n: getattr(foreal_local, n).__name__ for n in {foreal_local.__all__!r}}})"
    assert ast.literal_eval(fresh(code)) == {name: name for name in foreal_local.__all__}
    tree = ast.parse((ROOT / "foreal_local" / "__init__.py").read_text(encoding="utf-8"))
    typed = next(node for node in tree.body if isinstance(node, ast.If))
    names = [alias.name for node in typed.body if isinstance(node, ast.ImportFrom) for alias in node.names]
    assert sorted(names) == sorted(foreal_local.__all__)
    assert fresh("from foreal_local import *; print(Engine.__module__)") == "foreal_local.engine"
    with pytest.raises(AttributeError, match="module 'foreal_local' has no attribute 'Enginee'"):
        foreal_local.Enginee  # noqa: B018
    assert (ROOT / "foreal_local" / "py.typed").exists()


# ---------------------------------------------------------------- what can be asked
def test_one_prompt_gives_a_result_and_several_give_a_list(engine: Engine) -> None:
    """Guards a text that is taken for a list of letters, and messages that are taken for a list of prompts."""
    messages = [{"role": "user", "content": "so"}]
    for one in ("so", messages, Prompt("so"), Prompt(messages)):
        result = engine.generate(one)
        assert isinstance(result, Result)
        assert (result.prompt, len(result.tokens)) == (one.content if isinstance(one, Prompt) else one, 3)
    found = engine.generate(text for text in ("so", "wait"))
    assert [result.prompt for result in found] == ["so", "wait"]
    found = engine.generate([messages, Prompt("wait"), "so"])
    assert [result.prompt for result in found] == [messages, "wait", "so"]
    assert engine.generate(["so"])[0].text == engine.generate("so").text
    assert engine.generate([]) == []


@pytest.mark.parametrize("wrong", [5, [5], None, {"role": "user", "content": "so"}, ["so", b"so"]])
def test_what_is_no_prompt_is_refused(wrong: Any, engine: Engine) -> None:
    """Guards an error from the depths of a chat template, and keys of a dictionary that are answered one by one."""
    with pytest.raises(UsageError, match=r"a prompt is a text, a list of messages or a Prompt, not "):
        engine.generate(wrong)


# ---------------------------------------------------------------- settings by name
def test_single_settings_go_before_the_engines(engine: Engine) -> None:
    """Guards changes that are lost, or that are kept for later prompts."""
    result = engine.generate("so", max_tokens=2, temp=0, n=4, stop="zzz", system="Be brief.")
    used = result.sequence.settings
    assert (used.mode, used.max_tokens, used.sampling.temp, used.method.n, used.stop) == ("leader", 2, 0.0, 4, ("zzz",))
    assert engine.generate("so").sequence.settings == BRIEF
    *chunks, result = engine.stream("so", max_tokens=2)
    assert (len(result.tokens), sum(len(chunk.tokens) for chunk in chunks)) == (2, 2)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"temprature": 0}, "no setting 'temprature' of a response: did you mean temp?"),
        ({"temperature": 0}, "no setting 'temperature' of a response: did you mean temp?"),
        ({"max_token": 3}, "no setting 'max_token' of a response: did you mean max_tokens?"),
        ({"ctx_size": 512}, "no setting 'ctx_size' of a response"),
        ({"seed": "one"}, "seed is 'one', but must be a whole number"),
        ({"temp": -1}, "temp is -1.0, but must be 0 or more"),
        ({"mode": "both"}, "mode is 'both', but must be one of"),
    ],
)
def test_settings_that_are_not_there_are_told(wrong: dict[str, Any], message: str, engine: Engine) -> None:
    """Guards a misspelled setting that changes nothing, for one answer and for a stream."""
    for ask in (engine.generate, engine.stream):
        with pytest.raises(UsageError) as caught:
            ask("so", **wrong)  # type: ignore[operator]
        assert str(caught.value).startswith(message)


# ---------------------------------------------------------------- types
def test_what_type_checkers_accept_runs(chat_pair: Files) -> None:
    """Guards types that promise something else than what comes; scripts/check holds the file against the types."""
    with typed_api.open_engine(chat_pair.leader, str(chat_pair.draft)) as engine:
        typed_api.ask(engine)
        typed_api.talk(engine)
        asyncio.run(typed_api.answers(engine))


# ---------------------------------------------------------------- loading
@pytest.fixture
def named(chat_pair: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Files:
    """chat_pair is also a pair by the name of "mine", with settings of its own."""
    lines = [f"leader = '{chat_pair.leader}'", f"draft = '{chat_pair.draft}'", "n = 7", "temp = 0.25", "system = 'Hm.'"]
    (tmp_path / "pairs.toml").write_text("[mine]\n" + "\n".join(lines), encoding="utf-8")
    monkeypatch.setenv("FOREAL_PAIRS", str(tmp_path / "pairs.toml"))
    return chat_pair


def load(*models: Any, **options: Any) -> Engine:
    return foreal_local.load(*models, **{"ctx_size": 256, "threads": 1, **options})


def test_without_a_name_the_bundled_pair_is_loaded() -> None:
    """Guards the first line that everybody tries."""
    with foreal_local.load() as engine:
        assert [engine.loaded.pair.leader.path.name, engine.loaded.pair.draft.path.name] == [
            "tiny-leader.gguf",
            "tiny-draft.gguf",
        ]
        reviewed = Generation(method=Method(review="ratio", tau=0.3))  # models/pairs.toml
        assert (engine.settings, engine.prompting, engine.n_slots) == (reviewed, Prompting(), 1)


def test_a_named_pair_brings_its_settings(named: Files) -> None:
    """Guards a pair's settings that only the command line uses, and those that go before what was asked for."""
    with load("mine", parallel=2, temp=0, kv_type_k="f16", c=512) as engine:
        assert (engine.loaded.pair.leader.path, engine.loaded.pair.name) == (named.leader, "mine")
        assert (engine.settings.method.n, engine.settings.sampling.temp, engine.settings.mode) == (7, 0.0, "foreal")
        assert engine.prompting == Prompting(system="Hm.")
        assert (engine.n_slots, engine.ctx_size, engine.loaded.runtime.kv_type_k) == (2, 512, "f16")
        assert engine.generate("so", max_tokens=3).sequence.settings.method.n == 7
    with load("mine", settings=BRIEF, prompting=Prompting(raw=True), max_tokens=2) as engine:
        assert (engine.settings.method.n, engine.settings.max_tokens, engine.settings.mode) == (15, 2, "leader")
        assert engine.prompting == Prompting(raw=True)


def test_two_models_are_a_pair_whatever_they_are_named_by(named: Files) -> None:
    """Guards a path that must be a text, or a text that must be a path."""
    for models in (named, (str(named.leader), named.draft)):
        with load(*models, leader_gpu_layers=0) as engine:
            assert (engine.loaded.pair.leader.path, engine.loaded.pair.draft.path) == tuple(named)
            assert (engine.loaded.pair.leader.gpu_layers, engine.loaded.pair.draft.gpu_layers) == (0, -1)
            assert (engine.settings, engine.loaded.roles) == (Generation(), list(Role))


@pytest.mark.parametrize(
    ("role", "options", "roles", "mode"),
    [
        ("leader", {}, ["leader"], "leader"),
        ("draft", {}, ["draft"], "draft"),
        ("leader", {"mode": "foreal"}, ["leader", "draft"], "foreal"),
        ("leader", {"mode": "draft"}, ["draft"], "draft"),
        ("leader", {"settings": Generation(seed=1)}, ["leader"], "leader"),
        ("leader", {"settings": Generation(mode="speculative")}, ["leader", "draft"], "speculative"),
        ("leader", {"roles": "draft"}, ["draft"], "draft"),
    ],
)
def test_one_model_alone_writes_by_itself(
    role: str, options: dict[str, Any], roles: list[str], mode: str, chat_pair: Files
) -> None:
    """Guards an engine whose default mode needs a model that is not loaded."""
    with load(**{role: chat_pair.leader}, **options) as engine:
        assert (engine.loaded.roles, engine.settings.mode) == (roles, mode)
        result = engine.generate("so", max_tokens=3, seed=1)
        assert (result.error, len(result.tokens)) == (None, 3)


def test_one_model_of_a_pair_can_be_left_out(named: Files) -> None:
    """Guards memory that a model takes which is never used."""
    with load("mine", roles=[Role.LEADER]) as engine:
        assert (engine.loaded.roles, engine.settings.mode, engine.settings.method.n) == (["leader"], "leader", 7)
        assert engine.generate("so", max_tokens=3).error is None
        assert engine.generate("so", mode="foreal").error == "mode foreal needs the draft, not loaded in this run"


def test_names_on_the_hub_are_resolved(
    chat_pair: Files, tiny: TinyModels, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Guards a hub's name that is taken for a pair's, and `offline` that is not passed on."""
    asked = []

    def resolve(name: str, *, offline: bool, progress: bool) -> Path:
        asked.append((name, offline))
        return chat_pair.leader

    monkeypatch.setattr(loading, "resolve_model", resolve)
    load("org/Big-GGUF", "hf:org/Small-GGUF:Q8_0", offline=True).close()
    load("org/Big-GGUF:Q4_K_M").close()
    assert asked == [("org/Big-GGUF", True), ("hf:org/Small-GGUF:Q8_0", True), ("org/Big-GGUF:Q4_K_M", False)]
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").write_bytes(tiny.model("llama", "endless").read_bytes())
    with load("model") as engine:  # no suffix, and no pair of that name
        assert engine.loaded.roles == [Role.LEADER]


@pytest.mark.parametrize(
    ("models", "options", "kind", "message"),
    [
        (
            ["mime"],
            {},
            UsageError,
            r"no pair named 'mime'; did you mean 'mine'\? \(there are: .*\); for a model of your",
        ),
        (["big.gguf"], {}, ModelFileError, r"no such file: 'big\.gguf'"),
        (["mine", "big.gguf"], {}, ModelFileError, r"no such file: 'mine'"),
        ([Path("big")], {}, ModelFileError, r"no such file: 'big'"),
        (["org/Nowhere-GGUF", "org/Nothing"], {"offline": True}, DownloadError, "offline, and the cache"),
        (["mine"], {"ctx_sise": 5}, UsageError, "^no setting 'ctx_sise' of load: did you mean ctx_size\\?$"),
        (["mine"], {"paralel": 5}, UsageError, "^no setting 'paralel' of load: did you mean parallel\\?$"),
        (["mine"], {"temprature": 5}, UsageError, "^no setting 'temprature' of load: did you mean temp\\?$"),
        (["mine"], {"n_slots": 5}, UsageError, "^no setting 'n_slots' of load"),
        (["mine"], {"threads": "all"}, UsageError, "threads is 'all', but must be a whole number"),
        (["mine"], {"parallel": 0}, UsageError, "must be 1 or more"),
        (["mine"], {"roles": ["leader", "reader"]}, UsageError, r"roles is \['leader', 'reader'\], but must be"),
        (["mine"], {"roles": []}, UsageError, "roles is "),
    ],
)
def test_what_cannot_be_loaded_is_told(
    models: list[Any],
    options: dict[str, Any],
    kind: type[Exception],
    message: str,
    named: Files,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Guards a misspelled name that is silently something else, and an error that does not say what to write."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(kind, match=message):
        load(*models, **options)


def test_a_file_that_is_not_there_is_told_by_its_name(chat_pair: Files) -> None:
    """Guards a message from llama.cpp instead of the file's name."""
    for pair in (Pair("missing.gguf", chat_pair.draft), Pair(chat_pair.leader, "missing.gguf")):
        with pytest.raises(ModelFileError, match=r"no such model file: missing\.gguf"):
            Engine(pair)
