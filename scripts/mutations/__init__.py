"""Broken inputs by the hundred, and what no command may do with them: see scripts/mutate.py."""
