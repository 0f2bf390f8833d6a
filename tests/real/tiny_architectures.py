"""More random-weight GGUF files, of architectures that differ in what their caches hold: no text worth reading."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from .tiny_gguf import RandomModel, Vocabulary, new_model, plain


def _begin(
    path: Path | str, architecture: str, seed: int, width: int, vocabulary: Vocabulary, **shape: Any
) -> RandomModel:
    model = new_model(path, architecture, seed, width)
    model.describe(n_context=2048, **shape)
    model.add_vocabulary(vocabulary, None)
    model.add_ends(vocabulary, 4.0)
    return model


def write_qwen2(
    path: Path | str, *, seed: int, width: int = 64, n_layers: int = 2, n_heads: int = 4, n_kv_heads: int = 2,
    width_ff: int = 128, vocabulary: Vocabulary | None = None,
) -> Path:  # fmt: skip
    """Grouped queries, with biases."""
    words = vocabulary or plain()
    shape = {"n_layers": n_layers, "n_heads": n_heads, "n_kv_heads": n_kv_heads, "width_ff": width_ff}
    model = _begin(path, "qwen2", seed, width, words, **shape)
    for i in range(n_layers):
        block = f"blk.{i}."
        model.norm(block + "attn_norm")
        model.add_attention(block, n_heads, n_kv_heads)
        for name, size in (("q", width), ("k", n_kv_heads * width // n_heads), ("v", n_kv_heads * width // n_heads)):
            model.put(f"{block}attn_{name}.bias", np.zeros(size))
        model.add_feed_forward(block, width_ff)
    model.close()
    return Path(path)


def write_qwen3(
    path: Path | str, *, seed: int, width: int = 64, n_layers: int = 2, n_heads: int = 4, n_kv_heads: int = 1,
    width_ff: int = 128, vocabulary: Vocabulary | None = None,
) -> Path:  # fmt: skip
    """Queries and keys are normalised; one head of keys for all queries."""
    words = vocabulary or plain()
    shape = {"n_layers": n_layers, "n_heads": n_heads, "n_kv_heads": n_kv_heads, "width_ff": width_ff}
    model = _begin(path, "qwen3", seed, width, words, **shape)
    for i in range(n_layers):
        block = f"blk.{i}."
        model.norm(block + "attn_norm")
        model.add_attention(block, n_heads, n_kv_heads, normed=True)
        model.add_feed_forward(block, width_ff)
    model.close()
    return Path(path)


def write_phi3(
    path: Path | str, *, seed: int, width: int = 64, n_layers: int = 2, n_heads: int = 4, width_ff: int = 128,
    vocabulary: Vocabulary | None = None,
) -> Path:  # fmt: skip
    """Queries, keys and values in one matrix, and so the gate."""
    words = vocabulary or plain()
    shape = {"n_layers": n_layers, "n_heads": n_heads, "n_kv_heads": n_heads, "width_ff": width_ff}
    model = _begin(path, "phi3", seed, width, words, **shape)
    model.writer.add_rope_scaling_orig_ctx_len(2048)
    for i in range(n_layers):
        block = f"blk.{i}."
        model.norm(block + "attn_norm")
        model.matrix(block + "attn_qkv", 3 * width, width)
        model.into_stream(block + "attn_output", width)
        model.norm(block + "ffn_norm")
        model.matrix(block + "ffn_up", 2 * width_ff, width)
        model.into_stream(block + "ffn_down", width_ff)
    model.close()
    return Path(path)


def write_deepseek2(
    path: Path | str, *, seed: int, width: int = 64, n_layers: int = 2, n_heads: int = 4, rank: int = 32,
    width_ff: int = 128, vocabulary: Vocabulary | None = None,
) -> Path:  # fmt: skip
    """Multi-head latent attention: one compressed vector for all heads, and no values of their own."""
    words, rope, nope = vocabulary or plain(), 16, 16
    model = new_model(path, "deepseek2", seed, width)
    writer = model.writer
    writer.add_embedding_length(width)
    writer.add_block_count(n_layers)
    writer.add_context_length(2048)
    writer.add_feed_forward_length(width_ff)
    writer.add_head_count(n_heads)
    writer.add_head_count_kv(1)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(rope)
    writer.add_q_lora_rank(rank)
    writer.add_kv_lora_rank(rank)
    writer.add_key_length(rank + rope)
    writer.add_value_length(rank)
    writer.add_key_length_mla(nope + rope)
    writer.add_value_length_mla(nope)
    writer.add_leading_dense_block_count(n_layers)
    for add in (writer.add_expert_count, writer.add_expert_used_count, writer.add_expert_shared_count):
        add(2)
    writer.add_expert_feed_forward_length(width_ff)
    writer.add_expert_weights_scale(1.0)
    model.add_vocabulary(words, None)
    model.add_ends(words, 4.0)
    for i in range(n_layers):
        block = f"blk.{i}."
        model.norm(block + "attn_norm")
        model.matrix(block + "attn_q_a", rank, width)
        model.norm(block + "attn_q_a_norm", rank)
        model.matrix(block + "attn_q_b", n_heads * (nope + rope), rank)
        model.matrix(block + "attn_kv_a_mqa", rank + rope, width)
        model.norm(block + "attn_kv_a_norm", rank)
        model.matrix(block + "attn_k_b", n_heads, rank, nope)
        model.matrix(block + "attn_v_b", n_heads, nope, rank)
        model.into_stream(block + "attn_output", n_heads * nope)
        model.add_feed_forward(block, width_ff)
    model.close()
    return Path(path)
