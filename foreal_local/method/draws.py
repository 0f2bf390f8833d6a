"""The random numbers of one response: a stream for its gates and one for its tokens."""

from __future__ import annotations

import copy
from functools import cached_property

import numpy as np


class RandomNumbers:
    """A response's generators, made from its seed and index alone; a `Sequence` has them.

    n_drawn: how many of the tokens' numbers are used
    """

    def __init__(self, seed: int, index: int, greedy: bool) -> None:
        self.n_drawn = 0
        self._entropy, self._greedy = [seed, index], greedy

    @cached_property
    def gate_rng(self) -> np.random.Generator:
        """Draws the gates. Made when it is first asked for, as the other: greedy decoding needs none."""
        return np.random.default_rng(np.random.SeedSequence(self._entropy, spawn_key=(0,)))

    @cached_property
    def token_rng(self) -> np.random.Generator:
        """Draws the tokens."""
        return np.random.default_rng(np.random.SeedSequence(self._entropy, spawn_key=(1,)))

    def count_draw(self) -> None:
        """A random number was drawn for a token."""
        self.n_drawn += 1

    def use_draw(self) -> None:
        """A token is used whose random number was looked up with `random_at`."""
        if not self._greedy:
            self.token_rng.random()
            self.n_drawn += 1

    def random_at(self, n_drawn: int) -> np.random.Generator:
        """A generator that gives the token's random numbers from that one on; this sequence's own stays where it is."""
        rng = copy.deepcopy(self.token_rng)
        rng.bit_generator.advance((n_drawn - self.n_drawn) % 2**128)  # type: ignore[attr-defined]
        return rng

    def return_draws(self, n_drawn: int) -> None:
        """The next random number is that of a token with this n_drawn."""
        if self.n_drawn > n_drawn:
            self.token_rng.bit_generator.advance((n_drawn - self.n_drawn) % 2**128)  # type: ignore[attr-defined]
            self.n_drawn = n_drawn
