"""Experiments on a pair: problem sets, grading, statistics."""
