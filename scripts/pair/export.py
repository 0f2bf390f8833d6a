"""A trained network as a llama-architecture GGUF with its tokenizer and chat template, and back."""

from __future__ import annotations

import json
from pathlib import Path

import gguf
import numpy as np
import torch
from tokenizers import Tokenizer

from pair.network import Network, Shape
from pair.tokens import CHAT_TEMPLATE, END_OF_TEXT, END_THINK, THINK, TURN_END


def write_gguf(network: Network, tokenizer: Tokenizer, path: Path, name: str, description: str) -> None:
    """Write matrices as F16; rotary halves are interleaved as llama.cpp's llama architecture wants them."""
    shape = network.shape
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_name(name)
    writer.add_description(description)
    writer.add_license("mit")
    writer.add_context_length(shape.n_context)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.n_layers)
    writer.add_feed_forward_length(shape.width_ff)
    writer.add_head_count(shape.n_heads)
    writer.add_head_count_kv(shape.n_heads)
    writer.add_layer_norm_rms_eps(shape.norm_eps)
    writer.add_key_length(shape.width_head)
    writer.add_value_length(shape.width_head)
    writer.add_rope_dimension_count(shape.width_head)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_vocab_size(shape.n_vocab)
    _add_tokenizer(writer, tokenizer, shape.n_vocab)
    for tensor_name, weights in _tensors(network):
        kind = np.float16 if weights.ndim == 2 else np.float32
        writer.add_tensor(tensor_name, np.ascontiguousarray(weights, dtype=kind))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_tokenizer(writer: gguf.GGUFWriter, tokenizer: Tokenizer, n_vocab: int) -> None:
    content = json.loads(tokenizer.to_str())
    normal = {index: text for text, index in content["model"]["vocab"].items()}
    special = {entry["id"]: entry["content"] for entry in content["added_tokens"]}
    tokens, types = [], []
    for index in range(n_vocab):
        if index in special:
            tokens.append(special[index])
            thinking = special[index] in (THINK, END_THINK)
            types.append(gguf.TokenType.USER_DEFINED if thinking else gguf.TokenType.CONTROL)
        else:
            tokens.append(normal.get(index, f"[PAD{index}]"))
            types.append(gguf.TokenType.NORMAL if index in normal else gguf.TokenType.UNUSED)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    merges = content["model"]["merges"]
    writer.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in merges])
    writer.add_bos_token_id(tokenizer.token_to_id(END_OF_TEXT))
    writer.add_eos_token_id(tokenizer.token_to_id(TURN_END))
    writer.add_pad_token_id(tokenizer.token_to_id(END_OF_TEXT))
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHAT_TEMPLATE)


def _tensors(network: Network) -> list[tuple[str, np.ndarray]]:
    shape = network.shape
    weights = {name: tensor.numpy() for name, tensor in network.state_dict().items()}

    def interleave(matrix: np.ndarray) -> np.ndarray:
        halves = matrix.reshape(shape.n_heads, 2, shape.width_head // 2, -1)
        return halves.swapaxes(1, 2).reshape(shape.width_attention, -1)

    tensors = [
        ("token_embd.weight", weights["embedding.weight"]),
        ("output_norm.weight", weights["norm.weight"]),
    ]
    for i in range(shape.n_layers):
        here, there = f"blocks.{i}.", f"blk.{i}."
        q, k, v = np.split(weights[here + "qkv.weight"], 3)
        gate, up = np.split(weights[here + "gate_up.weight"], 2)
        tensors += [
            (there + "attn_norm.weight", weights[here + "norm_attention.weight"]),
            (there + "ffn_norm.weight", weights[here + "norm_ff.weight"]),
            (there + "attn_q.weight", interleave(q)),
            (there + "attn_k.weight", interleave(k)),
            (there + "attn_v.weight", v),
            (there + "attn_output.weight", weights[here + "out.weight"]),
            (there + "ffn_gate.weight", gate),
            (there + "ffn_up.weight", up),
            (there + "ffn_down.weight", weights[here + "down.weight"]),
        ]
    return tensors


def read_gguf(path: Path) -> Network:
    """The network of a file that write_gguf wrote, as exact as half precision is."""
    reader = gguf.GGUFReader(path)
    shape = _shape(reader)
    network = Network(shape)
    found = {tensor.name: gguf.dequantize(tensor.data, tensor.tensor_type) for tensor in reader.tensors}

    def halves(matrix: np.ndarray) -> np.ndarray:
        pairs = matrix.reshape(shape.n_heads, shape.width_head // 2, 2, -1)
        return pairs.swapaxes(1, 2).reshape(shape.width_attention, -1)

    weights = {"embedding.weight": found["token_embd.weight"], "norm.weight": found["output_norm.weight"]}
    for i in range(shape.n_layers):
        here, there = f"blocks.{i}.", f"blk.{i}."
        q, k, v = (found[f"{there}attn_{name}.weight"] for name in "qkv")
        weights[here + "qkv.weight"] = np.concatenate([halves(q), halves(k), v])
        gate, up = found[there + "ffn_gate.weight"], found[there + "ffn_up.weight"]
        weights[here + "gate_up.weight"] = np.concatenate([gate, up])
        for name, ours in (
            ("attn_norm", "norm_attention"),
            ("ffn_norm", "norm_ff"),
            ("attn_output", "out"),
            ("ffn_down", "down"),
        ):
            weights[f"{here}{ours}.weight"] = found[f"{there}{name}.weight"]
    network.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in weights.items()})
    return network


def _shape(reader: gguf.GGUFReader) -> Shape:
    def number(name: str) -> int:
        return int(reader.fields[f"llama.{name}"].contents())

    return Shape(
        number("vocab_size"),
        number("embedding_length"),
        number("block_count"),
        number("attention.head_count"),
        number("feed_forward_length"),
        number("rope.dimension_count"),
    )
