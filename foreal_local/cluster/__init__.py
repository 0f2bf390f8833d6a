"""Prompt sets answered on the machines of a Ray cluster: the same records as on one, in parts."""
