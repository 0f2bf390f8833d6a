"""A trained network in another shape: fewer heads and layers, wider feed-forward; trained on, it recovers.

Heads that are missed least go first. A layer that goes leaves its feed-forward part beside the one before
it; what is added to a feed-forward part has no effect until it is trained.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from pair.network import Block, Network, Shape

Batch = tuple[Tensor, Tensor]


@torch.no_grad()
def reshaped(network: Network, shape: Shape, examples: list[Batch]) -> Network:
    """`network` in `shape` (same vocabulary, width and width of a head); `examples` tell which heads matter."""
    old = network.shape
    if shape == old:
        return network
    while len(network.blocks) > shape.n_layers:
        network = _without_last_layer(network)
    new = Network(shape)
    new.embedding.load_state_dict(network.embedding.state_dict())
    new.norm.load_state_dict(network.norm.state_dict())
    for i, (target, source) in enumerate(zip(new.blocks, network.blocks, strict=True)):
        kept = _most_needed(network, source, shape.n_heads, examples)
        print(f"layer {i} keeps heads {kept}", flush=True)
        qkv = source.qkv.weight.view(3, -1, shape.width_head, shape.width)
        target.qkv.weight.copy_(qkv[:, kept].reshape(-1, shape.width))
        out = source.out.weight.view(shape.width, -1, shape.width_head)
        target.out.weight.copy_(out[:, kept].reshape(shape.width, -1))
        target.norm_attention.load_state_dict(source.norm_attention.state_dict())
        target.norm_ff.load_state_dict(source.norm_ff.state_dict())
        width = source.down.in_features
        gate_up = target.gate_up.weight.view(2, shape.width_ff, shape.width)
        gate_up[:, :width] = source.gate_up.weight.view(2, width, shape.width)
        target.down.weight.zero_()
        target.down.weight[:, :width] = source.down.weight
    return new


def _without_last_layer(network: Network) -> Network:
    """Without the last layer's attention; its feed-forward part beside the one of the layer before."""
    last, before = network.blocks[-1], network.blocks[-2]
    gate_up = last.gate_up.weight * (last.norm_ff.weight / before.norm_ff.weight)  # as if after that norm
    both = torch.cat((before.gate_up.weight.unflatten(0, (2, -1)), gate_up.unflatten(0, (2, -1))), 1).flatten(0, 1)
    shape = replace(network.shape, n_layers=network.shape.n_layers - 1)
    smaller = Network(shape)
    smaller.embedding, smaller.norm = network.embedding, network.norm
    smaller.blocks = network.blocks[:-1]
    before.gate_up.weight = torch.nn.Parameter(both)
    before.down.weight = torch.nn.Parameter(torch.cat((before.down.weight, last.down.weight), 1))
    before.down.in_features = before.down.weight.shape[1]
    return smaller


def _most_needed(network: Network, block: Block, n_heads: int, examples: list[Batch]) -> list[int]:
    """The heads of a block whose absence costs most; the others are left without effect in `network`."""
    out = block.out.weight.view(block.out.out_features, block.n_heads, -1)
    kept = list(range(block.n_heads))
    while len(kept) > n_heads:
        losses = {}
        for head in kept:
            held = out[:, head].clone()
            out[:, head] = 0
            losses[head] = sum(network.loss(*batch).item() for batch in examples)
            out[:, head] = held
        least = min(kept, key=losses.__getitem__)
        out[:, least] = 0
        kept.remove(least)
    return kept
