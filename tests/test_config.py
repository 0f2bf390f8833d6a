"""Settings: the paper's defaults, and a usable message for every value that cannot be."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest

from foreal_local import errors
from foreal_local.config import MODES, Generation, Method, ModelSettings, Pair, Prompting, Runtime, Sampling
from foreal_local.errors import ForealError, UsageError

NAN = math.nan


def test_the_defaults_are_the_papers() -> None:
    """Guards n = 15, p = 0.6, k = 5, hits counted after the first n tokens, temperature 0.6, top-p 0.95."""
    method, sampling = Generation().method, Generation().sampling
    assert (method.n, method.p, method.k) == (15, 0.6, 5)
    assert (method.hits_from, method.boundaries, method.compare) == ("lead", "robust", "top1")
    assert (sampling.temp, sampling.top_p, sampling.top_k, sampling.min_p) == (0.6, 0.95, 0, 0.0)
    assert sampling.repeat_penalty == 1.0
    assert Generation().mode == "foreal"
    assert (Generation().seed, Generation().max_tokens, Generation().stop) == (None, None, ())


@pytest.mark.parametrize(
    ("kind", "values", "word"),
    [
        (Method, {"n": -1}, "n (lead tokens)"),
        (Method, {"p": -0.1}, "p (lead probability)"),
        (Method, {"p": 1.1}, "p (lead probability)"),
        (Method, {"p": NAN}, "p (lead probability)"),
        (Method, {"k": -1}, "k (hits)"),
        (Method, {"hits_from": "start"}, "hits_from"),
        (Method, {"boundaries": "none"}, "boundaries"),
        (Method, {"compare": "text"}, "compare"),
        (Method, {"cue": ""}, "cue"),
        (Method, {"cue": " \n"}, "cue"),
        (Method, {"proposals": -1}, "proposals"),
        (Method, {"proposals": 65}, "proposals"),
        (Sampling, {"temp": -0.1}, "temp"),
        (Sampling, {"temp": NAN}, "temp"),
        (Sampling, {"temp": math.inf}, "temp"),
        (Sampling, {"top_k": -1}, "top_k"),
        (Sampling, {"top_p": 0.0}, "top_p"),
        (Sampling, {"top_p": 1.01}, "top_p"),
        (Sampling, {"top_p": NAN}, "top_p"),
        (Sampling, {"min_p": -0.1}, "min_p"),
        (Sampling, {"min_p": 1.1}, "min_p"),
        (Sampling, {"repeat_penalty": 0.0}, "repeat_penalty"),
        (Sampling, {"repeat_penalty": NAN}, "repeat_penalty"),
        (Sampling, {"repeat_penalty": 1e7}, "repeat_penalty"),
        (Sampling, {"repeat_penalty": math.inf}, "repeat_penalty"),
        (Sampling, {"repeat_last_n": -1}, "repeat_last_n"),
        (Generation, {"seed": -1}, "seed"),
        (Generation, {"mode": "both"}, "mode"),
        (Generation, {"max_tokens": 0}, "max_tokens"),
        (Generation, {"stop": ("a", "")}, "stop"),
        (Method, {"n": "3"}, "n (lead tokens)"),
        (Method, {"n": 2.5}, "n (lead tokens)"),
        (Method, {"k": True}, "k (hits)"),
        (Method, {"cue": 5}, "cue"),
        (Sampling, {"temp": "0"}, "temp"),
        (Prompting, {"raw": "yes", "system": 5}, "system"),
        (Prompting, {"raw": True, "system": "Be brief."}, "system"),
        (ModelSettings, {"path": Path("a.gguf"), "gpu_layers": -2}, "gpu_layers"),
        (Runtime, {"ctx_size": 1}, "ctx_size"),
        (Runtime, {"threads": 0}, "threads"),
        (Runtime, {"batch_size": 0}, "batch_size"),
        (Runtime, {"flash_attention": "maybe"}, "flash_attention"),
        (Runtime, {"kv_type_k": "q9"}, "kv_type_k"),
        (Runtime, {"kv_type_v": "q9"}, "kv_type_v"),
    ],
    ids=str,
)
def test_a_value_out_of_range_is_a_usage_error_that_names_it(kind: Any, values: dict[str, Any], word: str) -> None:
    """Guards a wrong setting that only shows as nonsense later; the message has the name and the value."""
    with pytest.raises(UsageError) as caught:
        kind(**values)
    assert str(caught.value).startswith(word)
    shown = values["system"] if kind is Prompting else list(values.values())[-1]
    assert repr(shown) in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (Method, {"n": 0, "p": 0.0, "k": 0}),
        (Method, {"n": 10**9, "p": 1.0, "k": 10**9, "hits_from": "sentence", "boundaries": "simple"}),
        (Sampling, {"temp": 0.0, "top_k": 0, "top_p": 1.0, "min_p": 1.0, "repeat_penalty": 0.5}),
        (Generation, {"seed": 0, "max_tokens": 1, "stop": ("\n",)}),
        (Runtime, {"ctx_size": 2, "threads": 1, "batch_size": 1}),
        (ModelSettings, {"path": Path("a.gguf"), "gpu_layers": 0}),
    ],
    ids=str,
)
def test_the_edges_of_the_ranges_are_fine(kind: Any, values: dict[str, Any]) -> None:
    """Guards a check that is too strict by one."""
    settings = kind(**values)
    assert all(getattr(settings, name) == value for name, value in values.items())


def test_settings_cannot_be_changed_later() -> None:
    """Guards a configuration completed from outside, after its checks."""
    for settings, name in ((Method(), "n"), (Sampling(), "temp"), (Generation(), "seed"), (Runtime(), "threads")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(settings, name, 3)


def test_one_stop_text_is_one_text() -> None:
    """Guards a text taken for its letters: "END" stopped at any E, N or D."""
    assert Generation(stop="END").stop == ("END",)  # type: ignore[arg-type]


def test_greedy_is_temperature_zero() -> None:
    assert Sampling(0.0).greedy
    assert not Sampling(0.01).greedy


def test_a_mode_may_be_given_by_its_name() -> None:
    """Guards a text that is taken and then fails inside a run."""
    assert all(Generation(mode=str(mode)).mode is mode for mode in MODES)  # type: ignore[arg-type]


def test_modes_read_as_on_the_command_line() -> None:
    assert [str(mode) for mode in MODES] == ["foreal", "leader", "draft", "cue", "speculative", "auto"]
    assert f"{'leader'}" == "leader"


def test_the_error_tree_is_as_drawn() -> None:
    """Guards an error outside the tree, which no command line would catch, and its exit code."""
    assert errors.__doc__
    found = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    for kind in found:
        assert issubclass(kind, ForealError)
        line = next(line for line in errors.__doc__.splitlines() if kind.__name__ in line.split())
        assert str(kind.exit_code) in line.split()


def test_a_pair_takes_names_of_files() -> None:
    """Guards a pair of texts that fails only when it is loaded, and one that cannot be changed with replace."""
    pair = Pair("big.gguf", Path("small.gguf"), "mine")
    assert pair == Pair(ModelSettings("big.gguf"), ModelSettings(Path("small.gguf")), name="mine")
    assert (pair.leader.path, pair.draft.gpu_layers) == (Path("big.gguf"), -1)
    changed = dataclasses.replace(pair, draft=ModelSettings("other.gguf", 3))
    assert (changed.leader, changed.draft.path, changed.name) == (pair.leader, Path("other.gguf"), "mine")
    assert dataclasses.replace(changed.draft, gpu_layers=0).path == Path("other.gguf")
    assert ModelSettings("~/a.gguf").path == Path.home() / "a.gguf"
    assert ModelSettings("~nobody at all/a.gguf").path == Path("~nobody at all/a.gguf")
