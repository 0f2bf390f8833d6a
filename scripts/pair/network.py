"""A small Llama in PyTorch, and the hand-set start that lets it learn to look facts up.

The start is only a start: layer 0's heads look back by 1, 2, ... tokens and layer 1's heads match what
stood before the present tokens with what stood before earlier ones (induction). Training then changes
every weight, and what is exported is an ordinary Llama.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class Shape:
    """Sizes of a network; the head is tied to the embedding, attention is multi-head.

    Heads of 64: llama.cpp's half-precision dot products take 64 numbers at a time, narrower heads cost as much.
    """

    n_vocab: int
    width: int
    n_layers: int
    n_heads: int
    width_ff: int
    width_head: int = 64
    n_context: int = 1024
    rope_base: float = 100_000.0
    norm_eps: float = 1e-5

    @property
    def width_attention(self) -> int:
        return self.n_heads * self.width_head


def rope_tables(shape: Shape) -> tuple[Tensor, Tensor]:
    """Cosines and sines, each (n_context, width_head / 2)."""
    frequencies = shape.rope_base ** -(torch.arange(0, shape.width_head, 2).float() / shape.width_head)
    angles = torch.outer(torch.arange(shape.n_context).float(), frequencies)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding of x (batch, heads, time, width_head); the halves of a head are its pairs."""
    a, b = x.chunk(2, -1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)


class RMSNorm(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(shape.width))
        self.eps = shape.norm_eps

    def forward(self, x: Tensor) -> Tensor:
        return functional.rms_norm(x, (x.shape[-1],), self.weight, self.eps)


class Block(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        width = shape.width
        self.n_heads = shape.n_heads
        self.norm_attention, self.norm_ff = RMSNorm(shape), RMSNorm(shape)
        self.qkv = nn.Linear(width, 3 * shape.width_attention, bias=False)
        self.out = nn.Linear(shape.width_attention, width, bias=False)
        self.gate_up = nn.Linear(width, 2 * shape.width_ff, bias=False)
        self.down = nn.Linear(shape.width_ff, width, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        batch, time, _ = x.shape
        qkv = self.qkv(self.norm_attention(x)).view(batch, time, 3, self.n_heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(rotate(q, cos, sin), rotate(k, cos, sin), v, is_causal=True)
        x = x + self.out(attended.transpose(1, 2).reshape(batch, time, -1))
        gate, up = self.gate_up(self.norm_ff(x)).chunk(2, -1)
        return x + self.down(functional.silu(gate) * up)


class Network(nn.Module):
    """Tokens (batch, time) to logits; `loss` is the cross entropy over targets that are not -100."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.embedding = nn.Embedding(shape.n_vocab, shape.width)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.n_layers))
        self.norm = RMSNorm(shape)
        cos, sin = rope_tables(shape)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        nn.init.normal_(self.embedding.weight, std=0.02)
        for block in self.blocks:
            for linear, gain in ((block.qkv, 1.0), (block.gate_up, 1.0), (block.out, 0.5), (block.down, 0.5)):
                depth = 1.0 if gain == 1.0 else math.sqrt(2 * shape.n_layers)
                nn.init.normal_(linear.weight, std=gain / math.sqrt(linear.in_features) / depth)

    def hidden(self, tokens: Tensor) -> Tensor:
        time = tokens.shape[1]
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x, self.cos[:time], self.sin[:time])
        return self.norm(x)

    def loss(self, tokens: Tensor, targets: Tensor) -> Tensor:
        learned = targets != -100
        logits = self.hidden(tokens)[learned] @ self.embedding.weight.T
        return functional.cross_entropy(logits, targets[learned])


@torch.no_grad()
def set_structured_start(network: Network, scale: float = 0.05) -> None:
    """Set layer 0 to look back by fixed distances and layer 1 to match n-grams.

    Every token gets a random unit code of `n_code` numbers. Head h of layer 0 attends h + 1 tokens back
    (its queries and keys are a constant, turned by the rotary angle of that distance) and writes the code
    found there into slot h + 1 of the residual. Heads of layer 1 compare the slots of the present position
    with those one further back at earlier ones, so they attend to what followed the same words before.
    """
    shape = network.shape
    width, n_heads, width_head = shape.width, shape.n_heads, shape.width_head
    half = width_head // 2
    n_code = 16 if width >= 128 else 8
    n_slots = min(n_heads, 5, width // n_code - 2)
    frequencies = shape.rope_base ** -(torch.arange(half).float() * 2 / width_head)
    embedding = network.embedding.weight
    embedding.normal_(std=scale)
    embedding[:, n_code : n_code * (n_slots + 1)] *= 0.3
    code = functional.normalize(torch.randn(shape.n_vocab, n_code), dim=1)
    embedding[:, :n_code] = code * scale * math.sqrt(n_code)
    constant = width - 1
    # Rows of one length: the layer norm would otherwise scale the constant by token, and with it which
    # distance a head of layer 0 prefers.
    embedding.mul_(scale * math.sqrt(width) / embedding[:, :constant].norm(dim=1, keepdim=True))
    embedding[:, constant] = 5 * scale
    rms = embedding.pow(2).mean(1).sqrt().mean().item()
    norm_constant, norm_code = 5 * scale / rms, scale / rms

    def parts(block: Block) -> tuple[Tensor, Tensor]:
        qkv = block.qkv.weight.view(3, n_heads, width_head, width)
        return qkv, block.out.weight.view(width, n_heads, width_head)

    qkv, out = parts(network.blocks[0])
    fast = torch.arange(half // 2)
    for head in range(n_slots):
        qkv[:2, head] *= 0.05
        qkv[2, head] = 0
        out[:, head] = 0
        qkv[0, head, fast, constant] = 6.0 / norm_constant
        angle = frequencies[fast] * (head + 1)
        qkv[1, head, fast, constant] = 6.0 / norm_constant * torch.cos(angle)
        qkv[1, head, fast + half, constant] = 6.0 / norm_constant * torch.sin(angle)
        for i in range(min(n_code, width_head)):
            qkv[2, head, i, i] = 1.0
            out[n_code * (head + 1) + i, head, i] = scale / norm_code
    qkv, out = parts(network.blocks[1])
    slow = list(range(half - n_code // 2, half))
    slow_dims = (slow + [i + half for i in slow])[:n_code]
    strength = math.sqrt(7.0 * math.sqrt(width_head) / n_code)
    read = list(range(n_code))
    read += range(n_code * (n_slots + 1), min(n_code * (n_slots + 1) + width_head - n_code, constant))
    patterns = ([0], [0, 1], [1], [0, 1, 2], [1, 2], [0, 1, 2, 3])
    for head, pattern in zip(range(n_heads), patterns, strict=False):
        qkv[:2, head] *= 0.05
        qkv[2, head] *= 0.3
        out[:, head] *= 0.3
        for order, slot in enumerate(s for s in pattern if s < n_slots):
            turn = torch.eye(n_code) if order == 0 else torch.linalg.qr(torch.randn(n_code, n_code))[0]
            qkv[0, head, slow_dims, n_code * slot : n_code * (slot + 1)] += strength * turn
            qkv[1, head, slow_dims, n_code * (slot + 1) : n_code * (slot + 2)] += strength * turn
        for i, dim in enumerate(read[:width_head]):
            qkv[2, head, i, dim] += 1.0
            out[dim, head, i] += 3.0 * scale
