"""foreal serve with lm-evaluation-harness: answers that it grades, and texts that it scores.

Needs the `clients` extra; its imports alone take ten seconds, so the `test` extra is without it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
import pytest
from commands import ROOT, environment, jsonl, records, run
from serving import Server, start

pytestmark = [
    pytest.mark.skipif(find_spec("lm_eval") is None, reason="lm-eval is not installed (the extra `clients`)"),
    pytest.mark.timeout(300),
]

KEY = "secret"
PROBLEMS = records((ROOT / "models" / "heldout.jsonl").read_text("utf-8"))[:20]
CHAT = "<|im_start|>user {prompt}<|im_end|>\n<|im_start|>assistant\n<think>\n"
GRADED = {
    "output_type": "generate_until",
    "doc_to_target": "{{answer}}",
    "generation_kwargs": {"until": [], "max_gen_toks": 500, "temperature": 0},
    "filter_list": [
        {
            "name": "boxed",
            "filter": [{"function": "regex", "regex_pattern": r"\\boxed\{(\d+)\}"}, {"function": "take_first"}],
        }
    ],
    "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
}
SCORED = {
    "output_type": "multiple_choice",
    "doc_to_text": "{{context}}",
    "doc_to_choice": "choices",
    "doc_to_target": "answer",
    "target_delimiter": "",
    "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
}
Outcome = tuple[float, list[dict[str, Any]]]
Evaluate = Callable[..., Outcome]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    env = environment(None, tmp_path_factory.mktemp("home"), FOREAL_CTX_SIZE="1024")
    with start("--parallel", "4", "--api-key", KEY, env=env) as server:
        yield server


@pytest.fixture
def evaluate(server: Server, tmp_path: Path) -> Evaluate:
    """Call lm_eval with a task of its own: the metric, and what it has kept of each problem."""
    env = environment(None, tmp_path, HF_HOME=str(tmp_path / "hf"), HF_DATASETS_OFFLINE="1", OPENAI_API_KEY=KEY)

    def call(kind: str, path: str, model: str, task: dict[str, Any], docs: list[dict[str, Any]], more: str) -> Outcome:
        (tmp_path / "docs.jsonl").write_text(jsonl(*docs), "utf-8")
        files = {"dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(tmp_path / "docs.jsonl")}}}
        (tmp_path / "task.yaml").write_text(json.dumps({"task": "ours", "test_split": "test", **files, **task}))
        about = f"model={model},base_url={server.url}{path},auth_token={KEY},max_retries=1,max_length=1024,{more}"
        words = ["run", "--model", kind, "--model_args", about, "--tasks", "ours", "--include_path", str(tmp_path)]
        words += ["--log_samples", "--output_path", str(tmp_path / "out")]
        words += ["--apply_chat_template"] if kind == "local-chat-completions" else []
        done = subprocess.run([sys.executable, "-m", "lm_eval", *words], env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        [results] = (tmp_path / "out").rglob("results_*.json")
        [samples] = (tmp_path / "out").rglob("samples_*.jsonl")
        metrics = json.loads(results.read_text("utf-8"))["results"]["ours"]
        value = next(metrics[name] for name in ("exact_match,boxed", "acc,none") if name in metrics)
        return value, sorted(records(samples.read_text("utf-8")), key=lambda each: int(each["doc_id"]))

    return call


# ---------------------------------------------------------------- answers
@pytest.mark.parametrize(
    ("kind", "path", "text", "more"),
    [
        ("local-chat-completions", "/v1/chat/completions", "{{prompt}}", "num_concurrent=8"),
        ("local-completions", "/v1/completions", "{{text}}", "num_concurrent=4"),
        ("local-completions", "/v1/completions", "{{text}}", "tokenized_requests=False"),
    ],
    ids=["chat", "tokens", "texts"],
)
def test_answers_have_the_score_of_foreal_bench(
    evaluate: Evaluate, tmp_path: Path, kind: str, path: str, text: str, more: str
) -> None:
    """Guards texts that lm-eval gets other than they were written, or without what it looks for in them. The draft
    answers, which is wrong now and then."""
    docs = [problem | {"text": CHAT.format(**problem)} for problem in PROBLEMS]
    score, samples = evaluate(kind, path, "tiny:draft", GRADED | {"doc_to_text": text}, docs, more)
    (tmp_path / "problems.jsonl").write_text(jsonl(*PROBLEMS), "utf-8")
    given = [{"id": each["doc"]["id"], "text": each["resps"][0][0]} for each in samples]
    (tmp_path / "responses.jsonl").write_text(jsonl(*given), "utf-8")
    words = ("--problems", tmp_path / "problems.jsonl", "--json", tmp_path / "bench.json", "-q")
    env, command = environment(None, tmp_path), [sys.executable, "-m", "foreal_local", "bench"]
    done = run(*words, "--responses", tmp_path / "responses.jsonl", env=env, command=command)
    assert done.returncode == 0, done.stderr
    [graded] = json.loads((tmp_path / "bench.json").read_text("utf-8"))["settings"]
    assert score == pytest.approx(graded["accuracy"]["value"])
    assert graded["n"] == 20
    own = run(*words, "--modes", "draft", "--temp", "0", "--parallel", "4", env=env, command=command)
    assert own.returncode == 0, own.stderr
    [measured] = json.loads((tmp_path / "bench.json").read_text("utf-8"))["settings"]
    assert measured["verdicts"] == graded["verdicts"]
    assert 0.2 < score < 1
    print(f"{kind}, {more}: {20 * score:.0f} of 20 right by lm-eval, {graded['verdicts']} by foreal bench")


# ---------------------------------------------------------------- scores
def choices(index: int, problem: dict[str, Any]) -> dict[str, Any]:
    """A choice of four: of numbers that the model has not thought about, or of one that it has named."""
    right = int(problem["answer"])
    numbers = [right + step for step in (0, -1, 1, 10)]
    numbers = numbers[-index % 4 :] + numbers[: -index % 4]
    context = CHAT.format(**problem) + "So the answer is"
    texts = [f" {number}." for number in numbers]  # lm-eval counts white space at a context's end to the choices
    if index % 2:
        context, texts = f"{context} {right}.\n</think>", [f"\n\\boxed{{{number}}}" for number in numbers]
    return {"context": context, "choices": texts, "answer": numbers.index(right)}


def scores(model: llama_cpp.Llama, context: str, text: str) -> tuple[float, bool]:
    """What llama_cpp says of a text behind another: the sum of its tokens' log-probabilities, and whether each is the
    likeliest."""
    before, ids = (model.tokenize(each.encode(), add_bos=False, special=True) for each in (context, context + text))
    model.reset()
    model.eval(ids)
    rows = model.scores[len(before) - 1 : len(ids) - 1].astype(np.float64)
    rows -= np.log(np.exp(rows - rows.max(1, keepdims=True)).sum(1, keepdims=True)) + rows.max(1, keepdims=True)
    behind = ids[len(before) :]
    return sum(row[token] for row, token in zip(rows, behind, strict=True)), rows.argmax(1).tolist() == behind


@pytest.mark.parametrize("more", ["num_concurrent=4", "num_concurrent=1,tokenized_requests=False"])
@pytest.mark.parametrize(("name", "file"), [("tiny", "tiny-leader.gguf"), ("tiny:draft", "tiny-draft.gguf")])
def test_scores_are_those_of_llama_cpp(evaluate: Evaluate, name: str, file: str, more: str) -> None:
    """Guards likelihoods of other tokens than those of the choices: with them every choice is as good as chance
    (llama.cpp#27174), and nobody notices."""
    docs = [choices(index, problem) for index, problem in enumerate(PROBLEMS)]
    accuracy, samples = evaluate("local-completions", "/v1/completions", name, SCORED, docs, more)
    model = llama_cpp.Llama(str(ROOT / "models" / file), n_ctx=1024, logits_all=True, n_threads=1, verbose=False)
    n_right = n_likeliest = 0
    furthest = 0.0
    for doc, sample in zip(docs, samples, strict=True):
        expected = [scores(model, doc["context"], text) for text in doc["choices"]]
        found = [(float(value), likeliest == "True") for ((value, likeliest),) in sample["resps"]]
        assert [value for value, _ in found] == pytest.approx([value for value, _ in expected], abs=0.02)
        assert [likeliest for _, likeliest in found] == [likeliest for _, likeliest in expected]
        furthest = max(furthest, *(abs(a - b) for (a, _), (b, _) in zip(found, expected, strict=True)))
        n_right += max(range(4), key=lambda i: expected[i][0]) == doc["answer"]
        n_likeliest += any(likeliest for _, likeliest in found)
    assert accuracy == pytest.approx(n_right / 20)
    assert n_likeliest >= 5
    print(f"{name}, {more}: {20 * accuracy:.0f} of 20 choices right, scores at most {furthest:.4f} from llama_cpp's")
