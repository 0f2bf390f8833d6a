"""A conversation of many turns, and its terminal."""
