"""How much memory a pair needs, how much there is, and what is changed where that is not enough.

need.py       what both models take, by what it is for and where it is
simulator.py  asks llama.cpp, in a process of its own that takes no memory for it
machine.py    what this machine has; cgroups.py: how much of it this process may use
fit.py        which layers, context and types of caches fit
"""
