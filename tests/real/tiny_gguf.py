"""Random-weight GGUF files: written in milliseconds, loadable by llama.cpp, and talkative.

Knows how each architecture names its tensors, and what random weights need so that greedy decoding writes
varied text with sentences in it. Knows nothing of the package under test.

A sentence end raises a flag, axis 0 of the residual stream, which no layer writes to and which lowers the
logits of all sentence ends: without it random models write "???!?", and few sentences of five tokens or more.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np

CONTROL = gguf.TokenType.CONTROL
USER_DEFINED = gguf.TokenType.USER_DEFINED
NORMAL = gguf.TokenType.NORMAL
UNUSED = gguf.TokenType.UNUSED

WORDS = (
    "the a an of to and in is it so we if let me check wait hmm now add times half more less than gives "
    "total number think again sure right one two ten"
)
SYMBOLS = ",:;=+-0123456789"
WIDE = ("é", "ü", "数", "和")
"""Characters of two and three bytes."""
ENDS = (".", "?", "!", "\n", "\n\n", "。", "？")

RARE = 0.45
"""Emphasis of tokens to be written hardly ever: most bytes, half-built words, most special tokens."""
OFTEN = 1.0
END = 0.9
"""Emphasis of a sentence end: gives sentences of 10 tokens in the median, two thirds of them 5 to 60 long."""
STOP = 0.8
"""Emphasis of the end-of-generation token: some answers of 150 tokens end by themselves, most do not."""

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
THINKING_CHATML = CHATML.replace("assistant\n", "assistant\n<think>\n")
LLAMA2 = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}[INST] {{ m['content'] }} [/INST]"
    "{% else %} {{ m['content'] }} </s>{% endif %}{% endfor %}"
)
R1_TEMPLATE = (
    "{% for m in messages %}{% if m['role'] == 'system' %}{{ m['content'] }}"
    "{% elif m['role'] == 'user' %}<｜User｜>{{ m['content'] }}"
    "{% else %}<｜Assistant｜>{{ m['content'] }}<｜end▁of▁sentence｜>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<｜Assistant｜><think>\n{% endif %}"
)


# --- Vocabularies ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Special:
    """A token outside the byte-level vocabulary."""

    text: str
    kind: gguf.TokenType = CONTROL
    emphasis: float = RARE


@dataclass(frozen=True)
class Vocabulary:
    """A byte-level BPE vocabulary: ordinary tokens first, special ones last.

    `ordinary` holds texts as GGUF spells them (byte-level alphabet). `emphasis` is one factor per ordinary
    token on its row of the output matrix: the higher, the oftener a random model writes the token.
    """

    ordinary: tuple[str, ...]
    emphasis: tuple[float, ...]
    merges: tuple[str, ...]
    specials: tuple[Special, ...]
    eos: str
    bos: str
    pre: str = "gpt-2"
    add_bos: bool = False
    add_eos: bool | None = None
    chat_template: str = CHATML

    def write(self, writer: gguf.GGUFWriter) -> None:
        writer.add_vocab_size(len(self))
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(self.pre)
        writer.add_token_list(self.texts)
        writer.add_token_types(self.types)
        writer.add_token_merges(list(self.merges))
        writer.add_eos_token_id(self.id_of(self.eos))
        writer.add_bos_token_id(self.id_of(self.bos))
        writer.add_add_bos_token(self.add_bos)
        if self.add_eos is not None:
            writer.add_add_eos_token(self.add_eos)

    def __len__(self) -> int:
        return len(self.ordinary) + len(self.specials)

    @property
    def texts(self) -> list[str]:
        return [*self.ordinary, *(s.text for s in self.specials)]

    @property
    def types(self) -> list[gguf.TokenType]:
        return [NORMAL] * len(self.ordinary) + [s.kind for s in self.specials]

    @property
    def emphases(self) -> np.ndarray:
        """One factor per token, special ones included."""
        return np.array([*self.emphasis, *(s.emphasis for s in self.specials)], dtype=np.float32)

    def id_of(self, text: str) -> int:
        """The id of the token for `text`: a special token's name, or the text of one ordinary token."""
        names = [s.text for s in self.specials]
        if text in names:
            return len(self.ordinary) + names.index(text)
        return self.ordinary.index(byte_level(text))

    def ids_of(self, *texts: str) -> list[int]:
        return [self.id_of(text) for text in texts]

    def with_emphasis(self, text: str, emphasis: float) -> Vocabulary:
        """The same, with one token written oftener or more seldom: 1.3 on the EOS makes short answers."""
        i = self.id_of(text)
        if i < len(self.ordinary):
            return replace(self, emphasis=(*self.emphasis[:i], emphasis, *self.emphasis[i + 1 :]))
        specials = [replace(s, emphasis=emphasis) if s.text == text else s for s in self.specials]
        return replace(self, specials=tuple(specials))


@dataclass(frozen=True)
class Pieces:
    """A SentencePiece vocabulary: three control tokens, 256 bytes, pieces of WORDS, and special tokens last."""

    specials: tuple[Special, ...] = ()
    chat_template: str = CHATML
    add_eos: bool = False

    @property
    def _ordinary(self) -> list[str]:
        pieces = ["▁", *"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,;:?!-+=<>/|_'"]
        for word in WORDS.split():
            pieces += [word[:end] for end in range(2, len(word) + 1)]
            pieces += ["▁" + word[:end] for end in range(1, len(word) + 1)]
        return list(dict.fromkeys(pieces))

    @property
    def texts(self) -> list[str]:
        specials = [special.text for special in self.specials]
        return ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *self._ordinary, *specials]

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def emphases(self) -> np.ndarray:
        ordinary = [OFTEN if text[1:] in WORDS.split() else RARE for text in self._ordinary]
        return np.array([*[RARE] * 259, *ordinary, *(s.emphasis for s in self.specials)], dtype=np.float32)

    def ids_of(self, *texts: str) -> list[int]:
        """Of those sentence ends that it has as one token."""
        return [self.texts.index(text) for text in texts if text in self.texts]

    def write(self, writer: gguf.GGUFWriter) -> None:
        kind = gguf.TokenType
        kinds = [kind.UNKNOWN, CONTROL, CONTROL, *[kind.BYTE] * 256, *[NORMAL] * len(self._ordinary)]
        scores = [*[0.0] * 259, *(-float(i) for i in range(len(self._ordinary))), *[0.0] * len(self.specials)]
        writer.add_vocab_size(len(self))
        writer.add_tokenizer_model("llama")
        writer.add_tokenizer_pre("default")
        writer.add_token_list(self.texts)
        writer.add_token_scores(scores)
        writer.add_token_types([*kinds, *(special.kind for special in self.specials)])
        writer.add_bos_token_id(1)
        writer.add_eos_token_id(2)
        writer.add_unk_token_id(0)
        writer.add_add_bos_token(True)
        writer.add_add_eos_token(self.add_eos)
        writer.add_add_space_prefix(True)


def byte_alphabet() -> list[str]:
    """The printable character that stands for each byte, as GPT-2's byte-level BPE chose them."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    spare = iter(range(0x100, 0x200))
    return [chr(b if b in printable else next(spare)) for b in range(256)]


ALPHABET = byte_alphabet()


def byte_level(text: str) -> str:
    return "".join(ALPHABET[b] for b in text.encode())


def merges_of(spelled: str, known: dict[str, float]) -> Iterator[tuple[str, str]]:
    """The merges still missing to build a token from the left: (what there is of it, its next character)."""
    for end in range(2, len(spelled) + 1):
        if spelled[:end] not in known:
            yield spelled[: end - 1], spelled[end - 1]


def plain() -> Vocabulary:
    """Like the bundled pair's: ChatML, thinking tags that are single tokens.

    256 bytes, then words with a leading space, wide characters and the blank line, each preceded by its
    half-built beginnings (every merge makes a token).
    """
    emphasis = dict.fromkeys(ALPHABET, RARE)
    merges = []
    for text in [*(" " + word for word in WORDS.split()), *WIDE, *ENDS]:
        for left, right in merges_of(byte_level(text), emphasis):
            merges.append(f"{left} {right}")
            emphasis[left + right] = RARE
        emphasis[byte_level(text)] = END if text in ENDS else OFTEN
    emphasis |= {byte_level(symbol): OFTEN for symbol in SYMBOLS}
    return Vocabulary(
        ordinary=tuple(emphasis),
        emphasis=tuple(emphasis.values()),
        merges=tuple(merges),
        specials=(
            Special("<|endoftext|>"),
            Special("<|im_start|>"),
            Special("<|im_end|>", emphasis=STOP),
            Special("<think>", USER_DEFINED),
            Special("</think>", USER_DEFINED),
        ),
        eos="<|im_end|>",
        bos="<|endoftext|>",
        chat_template=THINKING_CHATML,
    )


def qwen_like() -> Vocabulary:
    """The instruct side of a pair like Qwen2.5 and R1-Distill, see r1_like: `</think>` is text here."""
    specials = (
        Special("<|endoftext|>"),
        Special("<|im_start|>"),
        Special("<|im_end|>", emphasis=STOP),
        Special("<|box_start|>"),
        Special("<|box_end|>"),
    )
    return replace(plain(), specials=specials, pre="qwen2", chat_template=CHATML)


def r1_like() -> Vocabulary:
    """The distilled side: the same ordinary tokens, other texts at the special ones, three more."""
    specials = (
        Special("<｜end▁of▁sentence｜>", emphasis=STOP),
        Special("<｜User｜>"),
        Special("<｜Assistant｜>"),
        Special("<｜begin▁of▁sentence｜>"),
        Special("<|EOT|>"),
        Special("<think>", USER_DEFINED),
        Special("</think>", USER_DEFINED, OFTEN),
        Special("[PAD0]", UNUSED, 0.0),
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


OTHER = (" number", " figure")
"""The one ordinary token's text in plain() and in other()."""


def other() -> Vocabulary:
    """plain() with another text at id plain().id_of(OTHER[0]): not the same vocabulary."""
    base, (old, new) = plain(), OTHER
    texts = [byte_level(new) if text == byte_level(old) else text for text in base.ordinary]
    merges = [merge for merge in base.merges if merge.replace(" ", "") != byte_level(old)]
    return replace(base, ordinary=tuple(texts), merges=tuple(merges))


# --- Weights --------------------------------------------------------------------------------------

SHARP = 1.7
"""Gain of queries and of keys: attention picks few positions, so the text depends on all that came before."""
LOUD = 2.0
"""Gain of what layers add to the stream, against 1 for the embedding: the last token alone decides little."""
FLAG = 5.0
"""What a sentence end adds to axis 0."""


@dataclass
class RandomModel:
    """One GGUF being written: its metadata, its tokenizer and its random tensors, in this order of calls."""

    writer: gguf.GGUFWriter
    random: np.random.Generator
    width: int

    def describe(
        self,
        *,
        n_layers: int,
        n_context: int,
        n_heads: int = 0,
        n_kv_heads: int | list[int] = 0,
        width_ff: int = 0,
    ) -> None:
        self.writer.add_embedding_length(self.width)
        self.writer.add_block_count(n_layers)
        self.writer.add_context_length(n_context)
        self.writer.add_feed_forward_length(width_ff)
        self.writer.add_head_count(n_heads)
        self.writer.add_head_count_kv(n_kv_heads)
        self.writer.add_layer_norm_rms_eps(1e-5)
        if n_heads:
            self.writer.add_rope_dimension_count(self.width // n_heads)
            self.writer.add_rope_freq_base(10_000.0)

    def add_vocabulary(self, vocabulary: Vocabulary | Pieces, chat_template: str | None) -> None:
        vocabulary.write(self.writer)
        if template := vocabulary.chat_template if chat_template is None else chat_template:
            self.writer.add_chat_template(template)

    def add_ends(
        self, vocabulary: Vocabulary | Pieces, scale: float, *, norm: str = "output_norm", embedding: float = 1.0
    ) -> None:
        """Embeddings, last norm and output matrix, with the sentence ends' flag.

        `scale` is the standard deviation of the logits, `embedding` that of the embeddings.
        """
        size = (len(vocabulary), self.width)
        enters = self.random.standard_normal(size, dtype=np.float32)
        leaves = self.random.standard_normal(size, dtype=np.float32) * vocabulary.emphases[:, None]
        ends = vocabulary.ids_of(*ENDS)
        enters[:, 0] = leaves[:, 0] = 0
        enters[ends, 0], leaves[ends, 0] = FLAG, -FLAG
        self.put("token_embd.weight", enters * embedding)
        self.norm(norm)
        self.put("output.weight", leaves * scale / np.sqrt(self.width))

    def add_attention(self, block: str, n_heads: int, n_kv_heads: int, *, normed: bool = False) -> None:
        """Queries, keys, values and output; `normed` where the architecture normalises queries and keys."""
        width_head = self.width // n_heads
        self.matrix(block + "attn_q", self.width, self.width, gain=SHARP)
        self.matrix(block + "attn_k", n_kv_heads * width_head, self.width, gain=SHARP)
        self.matrix(block + "attn_v", n_kv_heads * width_head, self.width)
        self.into_stream(block + "attn_output", self.width)
        if normed:
            self.norm(block + "attn_q_norm", width_head, SHARP)
            self.norm(block + "attn_k_norm", width_head, SHARP)

    def add_feed_forward(self, block: str, width_ff: int, n_experts: int = 0) -> None:
        self.norm(block + "ffn_norm")
        kind, experts = ("_exps", (n_experts,)) if n_experts else ("", ())
        if n_experts:
            self.matrix(block + "ffn_gate_inp", n_experts, self.width, gain=LOUD)
        self.matrix(f"{block}ffn_gate{kind}", *experts, width_ff, self.width, gain=LOUD)
        self.matrix(f"{block}ffn_up{kind}", *experts, width_ff, self.width)
        self.into_stream(f"{block}ffn_down{kind}", *experts, width_ff, gain=LOUD if n_experts else 1.0)

    def matrix(self, name: str, *shape: int, gain: float = 1.0) -> None:
        """A matrix (..., out, in): inputs of standard deviation 1 give outputs of deviation `gain`."""
        self.put(f"{name}.weight", self.draw(shape) * gain)

    def into_stream(self, name: str, *shape: int, gain: float = LOUD) -> None:
        """A matrix (..., width, in) that writes to the residual stream, and leaves axis 0 alone."""
        drawn = self.draw((*shape[:-1], self.width, shape[-1]))
        drawn[..., 0, :] = 0
        self.put(f"{name}.weight", drawn * gain)

    def draw(self, shape: tuple[int, ...]) -> np.ndarray:
        return self.random.standard_normal(shape, dtype=np.float32) / np.sqrt(np.float32(shape[-1]))

    def norm(self, name: str, width: int | None = None, gain: float = 1.0) -> None:
        self.put(f"{name}.weight", np.full(width or self.width, gain))

    def put(self, name: str, values: np.ndarray) -> None:
        self.writer.add_tensor(name, np.ascontiguousarray(values, dtype=np.float32))

    def close(self) -> None:
        self.writer.write_header_to_file()
        self.writer.write_kv_data_to_file()
        self.writer.write_tensors_to_file()
        self.writer.close()


def new_model(path: Path | str, architecture: str, seed: int, width: int) -> RandomModel:
    return RandomModel(gguf.GGUFWriter(path, architecture), np.random.default_rng(seed), width)


def write_llama(
    path: Path | str,
    *,
    seed: int,
    width: int = 64,
    n_layers: int = 2,
    n_heads: int = 4,
    n_kv_heads: int = 2,
    width_ff: int = 128,
    n_experts: int = 0,
    n_experts_used: int = 2,
    n_context: int = 2048,
    vocabulary: Vocabulary | None = None,
    chat_template: str | None = None,
    scale: float = 4.0,
) -> Path:
    """Attention only: the cache holds every token of the past, and any of them can be taken back.

    `chat_template`: None for the vocabulary's own, "" for none at all.
    """
    vocabulary = vocabulary or plain()
    model = new_model(path, "llama", seed, width)
    model.describe(n_layers=n_layers, n_context=n_context, n_heads=n_heads, n_kv_heads=n_kv_heads, width_ff=width_ff)
    if n_experts:
        model.writer.add_expert_count(n_experts)
        model.writer.add_expert_used_count(n_experts_used)
    model.add_vocabulary(vocabulary, chat_template)
    model.add_ends(vocabulary, scale)
    for i in range(n_layers):
        model.norm(f"blk.{i}.attn_norm")
        model.add_attention(f"blk.{i}.", n_heads, n_kv_heads)
        model.add_feed_forward(f"blk.{i}.", width_ff, n_experts)
    model.close()
    return Path(path)


def write_moe(
    path: Path | str,
    *,
    seed: int,
    width_ff: int = 64,
    n_experts: int = 4,
    n_experts_used: int = 2,
    **shape: Any,
) -> Path:
    """write_llama with experts, as Mixtral: `n_experts_used` of them compute each token."""
    experts = {"n_experts": n_experts, "n_experts_used": n_experts_used}
    return write_llama(path, seed=seed, width_ff=width_ff, **experts, **shape)


def write_gemma3(
    path: Path | str,
    *,
    seed: int,
    width: int = 64,
    n_layers: int = 2,
    n_heads: int = 4,
    n_kv_heads: int = 2,
    width_ff: int = 128,
    window: int = 16,
    n_context: int = 2048,
    vocabulary: Vocabulary | None = None,
    chat_template: str | None = None,
    scale: float = 4.0,
) -> Path:
    """Sliding-window attention: even layers see `window` tokens back, odd ones everything.

    With swa_full off, llama.cpp rounds the window's cache up to 256 cells: tokens are lost only after as many.
    """
    vocabulary = vocabulary or plain()
    model = new_model(path, "gemma3", seed, width)
    model.describe(n_layers=n_layers, n_context=n_context, n_heads=n_heads, n_kv_heads=n_kv_heads, width_ff=width_ff)
    model.writer.add_key_length(width // n_heads)
    model.writer.add_value_length(width // n_heads)
    model.writer.add_sliding_window(window)
    model.writer.add_sliding_window_pattern(2)
    model.add_vocabulary(vocabulary, chat_template)
    model.add_ends(vocabulary, scale, embedding=width**-0.5)  # llama.cpp multiplies them by sqrt(width) here
    for i in range(n_layers):
        block = f"blk.{i}."
        model.norm(block + "attn_norm")
        model.add_attention(block, n_heads, n_kv_heads, normed=True)
        model.norm(block + "post_attention_norm", gain=LOUD)
        model.add_feed_forward(block, width_ff)
        model.norm(block + "post_ffw_norm")
    model.close()
    return Path(path)


def write_lfm2(
    path: Path | str,
    *,
    seed: int,
    width: int = 64,
    n_layers: int = 3,
    n_heads: int = 4,
    n_kv_heads: int = 2,
    width_ff: int = 128,
    n_context: int = 2048,
    vocabulary: Vocabulary | None = None,
    chat_template: str | None = None,
    scale: float = 4.0,
) -> Path:
    """Hybrid: odd layers attend, even ones are short convolutions, whose state only moves on (or rolls back
    as many tokens as the context was told to remember).
    """
    vocabulary = vocabulary or plain()
    kv_heads = [n_kv_heads if i % 2 else 0 for i in range(n_layers)]
    kernel = 3
    model = new_model(path, "lfm2", seed, width)
    model.describe(n_layers=n_layers, n_context=n_context, n_heads=n_heads, n_kv_heads=kv_heads, width_ff=width_ff)
    model.writer.add_shortconv_l_cache(kernel)
    model.add_vocabulary(vocabulary, chat_template)
    model.add_ends(vocabulary, scale, norm="token_embd_norm")
    for i in range(n_layers):
        block = f"blk.{i}."
        model.norm(block + "attn_norm")
        if kv_heads[i]:
            model.add_attention(block, n_heads, n_kv_heads, normed=True)
        else:
            model.matrix(block + "shortconv.in_proj", 3 * width, width)
            model.matrix(block + "shortconv.conv", width, kernel)
            model.into_stream(block + "shortconv.out_proj", width)
        model.add_feed_forward(block, width_ff)
    model.close()
    return Path(path)


def write_mamba(
    path: Path | str,
    *,
    seed: int,
    width: int = 64,
    n_layers: int = 2,
    width_state: int = 8,
    n_context: int = 2048,
    vocabulary: Vocabulary | None = None,
    chat_template: str | None = None,
    scale: float = 4.0,
) -> Path:
    """Purely recurrent: one state per sequence and no cache of tokens; llama.cpp cannot roll it back."""
    vocabulary = vocabulary or plain()
    inner, rank, kernel = 2 * width, 8, 4
    model = new_model(path, "mamba", seed, width)
    model.describe(n_layers=n_layers, n_context=n_context)
    model.writer.add_ssm_conv_kernel(kernel)
    model.writer.add_ssm_inner_size(inner)
    model.writer.add_ssm_state_size(width_state)
    model.writer.add_ssm_time_step_rank(rank)
    model.add_vocabulary(vocabulary, chat_template)
    model.add_ends(vocabulary, scale)
    for i in range(n_layers):
        block = f"blk.{i}."
        model.norm(block + "attn_norm")
        model.matrix(block + "ssm_in", 2 * inner, width, gain=LOUD)
        model.matrix(block + "ssm_conv1d", inner, kernel)
        model.put(block + "ssm_conv1d.bias", np.zeros(inner))
        model.matrix(block + "ssm_x", rank + 2 * width_state, inner)
        model.matrix(block + "ssm_dt", inner, rank)
        model.put(block + "ssm_dt.bias", np.full(inner, -2.0))
        model.put(block + "ssm_a", np.tile(-np.arange(1.0, width_state + 1), (inner, 1)))
        model.put(block + "ssm_d", np.ones(inner))
        model.into_stream(block + "ssm_out", inner)
    model.close()
    return Path(path)


def perturbed(path_in: Path | str, path_out: Path | str, seed: int, amount: float = 0.04) -> Path:
    """The same model, every matrix entry off by a random share: a draft that mostly agrees with its leader.

    `amount` is the standard deviation of that share; by default 60 to 90 % of the top-1 tokens agree.
    """
    shutil.copyfile(path_in, path_out)
    random = np.random.default_rng(seed)
    reader = gguf.GGUFReader(path_out, "r+")
    for tensor in reader.tensors:
        if len(tensor.shape) > 1:
            tensor.data[:] *= 1 + amount * random.standard_normal(tensor.data.shape, dtype=np.float32)
    reader.data.flush()
    return Path(path_out)


def renumbered(path_in: Path | str, path_out: Path | str, seed: int) -> Path:
    """The same model with other numbers for its words: ordinary words of as many bytes change places."""
    shutil.copyfile(path_in, path_out)
    reader, random = gguf.GGUFReader(path_out, "r+"), np.random.default_rng(seed)
    names = reader.fields["tokenizer.ggml.tokens"]
    words = [names.parts[index] for index in names.data]
    types = reader.fields["tokenizer.ggml.token_type"]
    kinds = [int(types.parts[index][0]) for index in types.data]
    by_length: dict[int, list[int]] = {}
    for token, word in enumerate(words):
        if kinds[token] == 1:  # a normal word
            by_length.setdefault(len(word), []).append(token)
    order = np.arange(len(words))
    for tokens in by_length.values():
        order[tokens] = random.permutation(tokens)
    for token, word in enumerate([words[source].copy() for source in order]):
        words[token][:] = word
    for tensor in reader.tensors:
        if tensor.name in ("token_embd.weight", "output.weight"):
            tensor.data[:] = tensor.data[order]
    reader.data.flush()
    return Path(path_out)
