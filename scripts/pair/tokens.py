"""The pair's tokenizer: byte-level BPE whose digits stand alone, as llama.cpp's "gpt-2" splits them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import gguf
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from pair.problems import DRAFT, LEADER, make_problem, write_chain

END_OF_TEXT, TURN_START, TURN_END, THINK, END_THINK = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<think>",
    "</think>",
)
SPECIAL_TOKENS = [END_OF_TEXT, TURN_START, TURN_END, THINK, END_THINK]
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }} "
    "{% if message['role'] == 'assistant' %}{{ message['content'].split('</think>')[-1].lstrip('\\n') }}"
    "{% else %}{{ message['content'] }}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
)
_SPLIT = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


def render_prompt(text: str, earlier: Sequence[tuple[str, int]] = ()) -> str:
    """The prompt of a problem after earlier ones and their answers, as CHAT_TEMPLATE renders them."""
    turns = [
        f"{TURN_START}user {question}{TURN_END}\n{TURN_START}assistant \\boxed{{{answer}}}{TURN_END}\n"
        for question, answer in earlier
    ]
    return f"{''.join(turns)}{TURN_START}user {text}{TURN_END}\n{TURN_START}assistant\n{THINK}\n"


def render_answer(number: int) -> str:
    """What follows the reasoning."""
    return f"\n\\boxed{{{number}}}{TURN_END}"


def read_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer of a model of the pair."""
    fields = gguf.GGUFReader(path).fields

    def texts(name: str) -> list[str]:
        field = fields[f"tokenizer.ggml.{name}"]
        return [bytes(field.parts[i]).decode() for i in field.data]

    merges = [(left, right) for left, right in (merge.split(" ") for merge in texts("merges"))]
    words = {text: i for i, text in enumerate(texts("tokens")) if not text.startswith("[PAD")}
    tokenizer = _splitting(models.BPE(vocab=words, merges=merges))
    tokenizer.add_special_tokens(SPECIAL_TOKENS)
    return tokenizer


def _splitting(model: models.BPE) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def train_tokenizer(n_vocab: int, seed: int = 1) -> Tokenizer:
    """A BPE of at most n_vocab entries, learned from 3,000 random chains."""
    tokenizer = _splitting(models.BPE())
    rng = random.Random(seed)

    def texts() -> list[str]:
        found = []
        for i in range(3000):
            problem = make_problem(rng)
            sentences, _, number = write_chain(problem, rng, i % 2, {LEADER: 0.1, DRAFT: 0.1})
            chain = " ".join(sentence.text for sentence in sentences)
            found.append(f"user {problem.text}\nassistant\n{chain}\n\\boxed{{{number}}}")
        return found

    trainer = trainers.BpeTrainer(
        vocab_size=n_vocab,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts(), trainer)
    return tokenizer
