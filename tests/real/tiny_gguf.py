"""Random-weight GGUF files: written in milliseconds, loadable by llama.cpp, and talkative.

Knows how each architecture names its tensors, and what random weights need so that greedy decoding writes varied
text with sentences in it. Knows nothing of the package under test.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import gguf
import numpy as np

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
R1_TEMPLATE = (
    "{% for m in messages %}{% if m['role'] == 'system' %}{{ m['content'] }}"
    "{% elif m['role'] == 'user' %}<｜User｜>{{ m['content'] }}"
    "{% else %}<｜Assistant｜>{{ m['content'] }}<｜end▁of▁sentence｜>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<｜Assistant｜><think>\n{% endif %}"
)

CONTROL = gguf.TokenType.CONTROL
USER_DEFINED = gguf.TokenType.USER_DEFINED
NORMAL = gguf.TokenType.NORMAL
UNUSED = gguf.TokenType.UNUSED

WORDS = (
    "the a an of to and in is it so we if let me check wait hmm now add times half more less than gives total number "
    "think again sure right one two ten"
).split()
FOREIGN = ("é", "ü", "数", "和", "。", "？")
"""Two- and three-byte characters, some of them sentence ends."""

RARE = 0.45
"""Emphasis of a token that a random model should hardly ever write."""


# ---------------------------------------------------------------------------------------------------------------------
# Vocabularies
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Special:
    """A token outside the byte-level vocabulary; `emphasis` as in Vocabulary."""

    text: str
    kind: gguf.TokenType = CONTROL
    emphasis: float = RARE


@dataclass(frozen=True)
class Vocabulary:
    """A byte-level BPE vocabulary: ordinary tokens first, special ones last.

    `ordinary` holds the tokens' texts as GGUF spells them (byte-level alphabet), `merges` what a pair of tokens is
    joined from, `emphasis` one factor per ordinary token on its row of the output matrix: below 1 the token is
    written less often, above 1 more often.
    """

    ordinary: tuple[str, ...]
    merges: tuple[str, ...]
    emphasis: tuple[float, ...]
    specials: tuple[Special, ...]
    eos: str
    bos: str
    pre: str = "gpt-2"
    add_bos: bool = False
    chat_template: str | None = CHATML

    @property
    def texts(self) -> list[str]:
        return [*self.ordinary, *(s.text for s in self.specials)]

    @property
    def types(self) -> list[gguf.TokenType]:
        return [NORMAL] * len(self.ordinary) + [s.kind for s in self.specials]

    @property
    def row_scales(self) -> np.ndarray:
        """(n_vocab, 1) factors on the rows of the output matrix."""
        scales = [*self.emphasis, *(s.emphasis for s in self.specials)]
        return np.array(scales, dtype=np.float32)[:, None]

    def __len__(self) -> int:
        return len(self.ordinary) + len(self.specials)

    def id_of(self, text: str) -> int:
        """The id of the token written `text` (plain text, or a special token's name)."""
        names = {s.text: len(self.ordinary) + i for i, s in enumerate(self.specials)}
        return names[text] if text in names else self.ordinary.index(byte_level(text.encode()))

    def ids_of(self, *texts: str) -> list[int]:
        return [self.id_of(text) for text in texts]


def byte_alphabet() -> list[str]:
    """The printable character that stands for each byte, as GPT-2's byte-level BPE chose them."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    spare = iter(range(0x100, 0x200))
    return [chr(b) if b in printable else chr(next(spare)) for b in range(256)]


ALPHABET = byte_alphabet()


def byte_level(data: bytes) -> str:
    return "".join(ALPHABET[b] for b in data)


def merges_of(text: str, known: set[str]) -> Iterator[tuple[str, str]]:
    """The merges that build `text` (byte-level) from the left: prefix + next character."""
    for end in range(2, len(text) + 1):
        if text[:end] not in known:
            yield text[: end - 1], text[end - 1]


def ordinary_tokens() -> tuple[tuple[str, ...], tuple[str, ...], tuple[float, ...]]:
    """(texts, merges, emphasis): 256 bytes, then words with a leading space, punctuation, characters of two or
    three bytes. Half-built words are tokens too (every merge makes one) but are hardly ever written."""
    emphasis = {ALPHABET[b]: RARE for b in range(256)}
    merges: list[str] = []
    spelled = [byte_level(t.encode()) for t in [*(" " + w for w in WORDS), "\n\n", *FOREIGN]]
    for text in spelled:
        for left, right in merges_of(text, set(emphasis)):
            merges.append(f"{left} {right}")
            emphasis[left + right] = RARE
        emphasis[text] = 1.0
    emphasis |= {byte_level(c.encode()): 1.0 for c in ",:;=+-0123456789"}
    emphasis |= {byte_level(c.encode()): 0.9 for c in (*".?!\n。？", "\n\n")}
    return tuple(emphasis), tuple(merges), tuple(emphasis.values())


def plain() -> Vocabulary:
    """Like the bundled pair's vocabulary: ChatML, thinking tags that are single tokens."""
    ordinary, merges, emphasis = ordinary_tokens()
    specials = (
        Special("<|endoftext|>"),
        Special("<|im_start|>"),
        Special("<|im_end|>", emphasis=1.0),
        Special("<think>", USER_DEFINED),
        Special("</think>", USER_DEFINED),
    )
    return Vocabulary(ordinary, merges, emphasis, specials, eos="<|im_end|>", bos="<|endoftext|>")


def qwen_like() -> Vocabulary:
    """The instruct side of a Qwen and R1-Distill pair: no thinking tags; see r1_like."""
    specials = (
        Special("<|endoftext|>"),
        Special("<|im_start|>"),
        Special("<|im_end|>", emphasis=1.0),
        Special("<|box_start|>"),
        Special("<|box_end|>"),
    )
    return replace(plain(), specials=specials, pre="qwen2")


def r1_like() -> Vocabulary:
    """The distilled side: the same ordinary tokens, other texts at the ids of the special ones, three tokens more."""
    specials = (
        Special("<｜end▁of▁sentence｜>", emphasis=1.0),
        Special("<｜User｜>"),
        Special("<｜Assistant｜>"),
        Special("<｜begin▁of▁sentence｜>"),
        Special("<|EOT|>"),
        Special("<think>", USER_DEFINED),
        Special("</think>", USER_DEFINED, emphasis=1.0),
        Special("[PAD0]", UNUSED),
    )
    return replace(
        plain(),
        specials=specials,
        eos="<｜end▁of▁sentence｜>",
        bos="<｜begin▁of▁sentence｜>",
        pre="deepseek-r1-qwen",
        add_bos=True,
        chat_template=R1_TEMPLATE,
    )


OTHER_ID = 300
"""The one ordinary id whose text differs between plain() and other()."""


def other() -> Vocabulary:
    """plain() with another text at OTHER_ID: a pair of the two must be refused, or re-encoded."""
    same = plain()
    texts = list(same.ordinary)
    texts[OTHER_ID] = texts[OTHER_ID] + byte_level(b"zz")
    return replace(same, ordinary=tuple(texts))


# ---------------------------------------------------------------------------------------------------------------------
# Weights
# ---------------------------------------------------------------------------------------------------------------------


@dataclass
class Weights:
    """Adds random matrices to one GGUF; rows are drawn so that a unit-variance input gives a unit-variance output."""

    writer: gguf.GGUFWriter
    random: np.random.Generator

    def matrix(self, name: str, *shape: int, gain: float | np.ndarray = 1.0) -> None:
        """A matrix (..., out, in) whose outputs have a standard deviation of `gain`."""
        drawn = self.random.standard_normal(shape, dtype=np.float32)
        if name.endswith(("attn_output","ffn_down")): drawn[0]=0
        self.put(f"{name}.weight", drawn * (np.float32(gain) / np.sqrt(np.float32(shape[-1]))))

    def norm(self, name: str, width: int, gain: float = 1.0) -> None:
        self.put(f"{name}.weight", np.full(width, gain))

    def put(self, name: str, values: np.ndarray) -> None:
        self.writer.add_tensor(name, np.ascontiguousarray(values, dtype=np.float32))


def write_llama(
    path: Path | str,
    *,
    seed: int,
    width: int = 64,
    n_layers: int = 2,
    n_heads: int = 4,
    n_kv_heads: int = 2,
    width_ff: int = 128,
    n_context: int = 2048,
    vocabulary: Vocabulary | None = None,
    chat_template: str | None = None,
    scale: float = 4.0,
    qk=1.7, vo=2.0, ffg=2.0, fl=5, last=1.0, assoc=0.0, ffgl=None
) -> Path:
    vocabulary = vocabulary or plain()
    w = Weights(gguf.GGUFWriter(path, "llama"), np.random.default_rng(seed))
    add_shape(w.writer, width, n_layers, n_heads, n_kv_heads, width_ff, n_context)
    add_tokenizer(w.writer, vocabulary, chat_template)
    dh = width // n_heads
    out = add_ends(w, vocabulary, width, scale, fl)
    w.norm("output_norm", width)
    for i in range(n_layers):
        b = f"blk.{i}."
        w.norm(b + "attn_norm", width)
        w.matrix(b + "attn_q", width, width, gain=qk)
        w.matrix(b + "attn_k", n_kv_heads * dh, width, gain=qk)
        w.matrix(b + "attn_v", n_kv_heads * dh, width, gain=vo)
        w.matrix(b + "attn_output", width, width, gain=last if i==n_layers-1 else 1)
        w.norm(b + "ffn_norm", width)
        w.matrix(b + "ffn_gate", width_ff, width, gain=ffg)
        w.matrix(b + "ffn_up", width_ff, width)
        if assoc and i == n_layers - 1:
            rows = out / np.linalg.norm(out, axis=1, keepdims=True)
            good = np.flatnonzero(vocabulary.row_scales[:, 0] > RARE)
            pick = w.random.choice(good, width_ff)
            w.put(b + "ffn_down.weight", assoc * rows[pick].T * np.sqrt(width/width_ff))
        else:
            w.matrix(b + "ffn_down", width, width_ff)
    return close(w.writer, path)


def add_ends(w, vocabulary, width, scale, fl):
    n = len(vocabulary)
    emb = w.random.standard_normal((n, width), dtype=np.float32)
    out = w.random.standard_normal((n, width), dtype=np.float32) * scale * vocabulary.row_scales / np.sqrt(width)
    enders = vocabulary.ids_of(".", "?", "!", "\n", "\n\n", "。", "？")
    emb[:, 0] = 0; out[:, 0] = 0
    emb[enders, 0] = 5
    out[enders, 0] = -fl * scale /np.sqrt(width)
    w.put("token_embd.weight", emb); w.put("output.weight", out)
    return out

def add_shape(w, width, n_layers, n_heads, n_kv_heads, width_ff, n_context):
    w.add_context_length(n_context)
    w.add_embedding_length(width)
    w.add_block_count(n_layers)
    w.add_feed_forward_length(width_ff)
    w.add_head_count(n_heads)
    w.add_head_count_kv(n_kv_heads)
    w.add_layer_norm_rms_eps(1e-5)
    w.add_rope_dimension_count(width // n_heads)
    w.add_rope_freq_base(10000.0)


def add_tokenizer(w, vocabulary, chat_template):
    w.add_vocab_size(len(vocabulary))
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre(vocabulary.pre)
    w.add_token_list(vocabulary.texts)
    w.add_token_types(vocabulary.types)
    w.add_token_merges(list(vocabulary.merges))
    w.add_eos_token_id(vocabulary.id_of(vocabulary.eos))
    w.add_bos_token_id(vocabulary.id_of(vocabulary.bos))
    w.add_add_bos_token(vocabulary.add_bos)
    if t := chat_template or vocabulary.chat_template:
        w.add_chat_template(t)


def close(w, path):
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    return Path(path)


def perturbed(path_in, path_out, seed, amount=0.04):
    shutil.copyfile(path_in, path_out)
    random = np.random.default_rng(seed)
    for tensor in gguf.GGUFReader(path_out, "r+").tensors:
        if len(tensor.shape) > 1:
            tensor.data[:] *= 1 + amount * random.standard_normal(tensor.data.shape, dtype=np.float32)
    return Path(path_out)
