"""math-verify, with numbers compared by their relative size: what the process of `verifier` runs.

math-verify rounds decimals to six places, and drops what is below 1e-15 from a formula's coefficients, so that all
tiny numbers are one. Knows LaTeX in one form (see `notation`); does not know how answers are found or graded.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from importlib import import_module
from typing import Any

from .numbers import Number, close

_DIGITS = 40  # of an irrational number
_SAME = Fraction(1, 10**25)  # of two that are equal, as a share: what they differ by is the error of the digits
_NOTHING = Fraction(1, 10**60)  # of a real part beside an imaginary one: what is left of a difference that is zero
_FAR = 400  # powers of ten from which on a number is not written out
_DECIMAL = Fraction(1, 10**1000)  # the step of a number that has a decimal in it, where its places say nothing


class Formulas:
    """Reads and compares formulas. Imports sympy, which takes a second."""

    def __init__(self) -> None:
        self._library: Any = import_module("math_verify")
        self._sympy: Any = import_module("sympy")
        grader: Any = import_module("math_verify.grader")
        grader.sympy_numeric_eq = lambda a, b, *_precision: self.same_value(a, b)  # also inside lists and intervals
        logging.disable()
        config: Any = self._library.LatexExtractionConfig
        written = replace(config().normalization_config, units=False)  # its list of units has single letters
        self._config = (config(boxed_match_priority=0, normalization_config=written),)
        self.read = lru_cache(maxsize=4096)(self._read)

    def equal(self, ours: str, theirs: str) -> bool | None:
        """Are two normalised answers equal? None where one of them cannot be read, or they cannot be compared."""
        a, b = self.read(ours), self.read(theirs)
        if a is None or b is None:
            return None
        if getattr(a, "is_number", False) and getattr(b, "is_number", False):
            return self.same_value(a, b)
        try:
            same = self._library.verify(b, a, allow_set_relation_comp=True, timeout_seconds=None, raise_on_error=True)
        except Exception:
            return None
        return bool(same) or self._same_range(a, b)

    def _same_range(self, a: Any, b: Any) -> bool:
        """Do inequalities leave the same numbers? Several hold where any of them does: x < 1 or x > 2."""
        try:
            return bool(self._range(a) == self._range(b))
        except Exception:  # no inequalities of one variable
            return False

    def _range(self, condition: Any) -> Any:
        if isinstance(condition, self._sympy.FiniteSet | self._sympy.Union):
            return self._sympy.Union(*(self._range(part) for part in condition.args))
        if isinstance(condition, self._sympy.Interval):
            return condition
        relations = condition.atoms(self._sympy.core.relational.Relational)
        if not relations or condition.atoms(self._sympy.Eq):
            raise ValueError("no inequality")
        return condition.as_set()

    def _read(self, answer: str) -> Any:
        """A sympy object; None where there is none."""
        box = f"\\boxed{{{answer}}}"
        parsed = self._library.parse(box, self._config, "no_fallback", "first_match", parsing_timeout=None)
        if not parsed:
            return None
        try:
            names = [symbol for symbol in parsed[0].free_symbols if symbol.name == "i"]
            return parsed[0].xreplace(dict.fromkeys(names, self._sympy.I)) if names else parsed[0]
        except Exception:
            return parsed[0]

    # ---- values ----

    def same_value(self, a: Any, b: Any) -> bool:
        """Are two numbers, formulas or matrices the same, but for the rounding of their decimals?"""
        try:
            if hasattr(a, "shape") or hasattr(b, "shape"):
                same_shape = getattr(a, "shape", None) == getattr(b, "shape", None)
                return same_shape and all(map(self.same_value, a.flat(), b.flat()))
            if not (a.is_number and b.is_number):
                a, b = a.doit(), b.doit()
            symbols = a.free_symbols | b.free_symbols
            if not symbols:
                return self._same_constant(a, b)
            terms, others = self._terms(a, symbols), self._terms(b, symbols)
            zero = self._sympy.Integer(0)
            rest = terms.keys() | others.keys()
            return all(self._same_constant(terms.get(key, zero), others.get(key, zero)) for key in rest)
        except Exception:  # a kind that has no value
            return False

    def _terms(self, formula: Any, symbols: set[Any]) -> dict[Any, Any]:
        """A sum's constant factors by what they are factors of: 2x + 0.5 has 2 of x and 0.5 of 1."""
        terms: dict[Any, Any] = {}
        for term in self._sympy.Add.make_args(self._sympy.expand(formula)):
            factor, rest = term.as_independent(*symbols, as_Add=False)
            terms[self._exact(rest)] = terms.get(self._exact(rest), 0) + factor
        return terms

    def _same_constant(self, a: Any, b: Any) -> bool:
        a, b = self._sympy.sympify(a), self._sympy.sympify(b)
        x, y = (self._digits(self._exact(value)) for value in (a, b))
        if not (x.is_finite and y.is_finite):
            return bool(x == y)
        decimals = [self._step(value) for value in (a, b)]
        largest = max(abs(x), abs(y))
        for part, other in zip(x.as_real_imag(), y.as_real_imag(), strict=True):
            size, gap = max(abs(part), abs(other)), abs(part - other)
            if gap <= max(size * _SAME, largest * _NOTHING):
                continue
            if not any(decimals) or abs(Decimal(str(size)).adjusted()) > _FAR:
                return False
            if not close(*(Number(self._fraction(v), step) for v, step in zip((part, other), decimals, strict=True))):
                return False
        return True

    def _digits(self, constant: Any) -> Any:
        value = constant.evalf(_DIGITS)
        if not all(part.is_Number for part in value.as_real_imag()):
            value = constant.doit().evalf(_DIGITS)
        return value

    def _exact(self, formula: Any) -> Any:
        """Decimals as the fractions that are written: 0.1 is 1/10, not the float next to it."""
        floats = formula.atoms(self._sympy.Float)
        return formula.xreplace({value: self._sympy.Rational(str(value)) for value in floats})

    def _fraction(self, value: Any) -> Fraction:
        exact = self._sympy.Rational(value)
        return Fraction(int(exact.p), int(exact.q))

    def _step(self, constant: Any) -> Fraction:
        """The last written place of a decimal times something exact; 0 without a decimal."""
        floats = list(constant.atoms(self._sympy.Float))
        if not floats:
            return Fraction(0)
        written = Decimal(str(floats[0])).normalize().as_tuple().exponent
        factor = self._exact(constant) / self._exact(floats[0])
        if len(floats) > 1 or not isinstance(written, int) or written >= 0 or not factor.is_Rational:
            return _DECIMAL
        return abs(self._fraction(factor)) * Fraction(10) ** written
