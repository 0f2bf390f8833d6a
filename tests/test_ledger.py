"""Counts and FLOPs against the formula, token by token."""

from __future__ import annotations

import pytest

from foreal_local.method.ledger import Cost, Shape


def slow_flops(shape: Shape, n_tokens: int, n_before: int) -> float:
    """Per token 2 x weights + 4 x layers x width x context; a token's context includes itself."""
    return sum(
        2 * shape.n_weights + 4 * shape.n_layers * shape.width * context
        for context in range(n_before + 1, n_before + n_tokens + 1)
    )


@pytest.mark.parametrize("n_before", [0, 1, 100])
@pytest.mark.parametrize("n_tokens", [1, 2, 57])
def test_flops_follow_the_formula(n_tokens: int, n_before: int) -> None:
    """Guards a context that is off by one, or one context for a whole row."""
    shape = Shape(n_weights=1234, n_layers=3, width=16)
    assert shape.flops(n_tokens, n_before) == slow_flops(shape, n_tokens, n_before)


def test_rows_add_up() -> None:
    """Guards a cost that hangs on how the tokens are cut into batches."""
    shape = Shape(n_weights=7, n_layers=2, width=5)
    whole = shape.flops(30, 4)
    assert whole == shape.flops(10, 4) + shape.flops(1, 14) + shape.flops(19, 15)


def test_flops_of_a_large_model_stay_exact_enough() -> None:
    """Guards integer overflow: 32e9 weights and 130,000 tokens."""
    shape = Shape(n_weights=32 * 10**9, n_layers=64, width=5120)
    assert shape.flops(130_000, 0) == pytest.approx(
        2 * 32e9 * 130_000 + 4 * 64 * 5120 * 130_000 * 130_001 / 2, rel=1e-12
    )
    assert Shape(10, 0, 0).flops(5, 100) == 100.0  # no layer with attention


def test_costs_add_in_every_field() -> None:
    """Guards a field that is forgotten when costs are summed."""
    total = Cost()
    total.add(Cost(1, 2, 3, 0.5, 10.0))
    total.add(Cost(10, 20, 30, 1.0, 100.0))
    assert total == Cost(11, 22, 33, 1.5, 110.0)
    assert total.tokens == 33


def test_as_dict_has_the_records_keys_in_order() -> None:
    values = Cost(1, 2, 3, 0.123456789, 4.0).as_dict()
    assert list(values) == ["decode_tokens", "prefill_tokens", "calls", "seconds", "flops", "reused_tokens"]
    assert values["seconds"] == 0.123457
