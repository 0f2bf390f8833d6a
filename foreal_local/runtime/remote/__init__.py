"""Models whose layers lie on other machines (llama.cpp's RPC), each in a process of its own.

llama.cpp ends its process when it loses a worker. So the role's model is in a child process, and what this process has
of it is a proxy: when the child ends, an error is raised here, and everything else goes on.

addresses.py  HOST:PORT of workers: which may be used, and whether one answers
sockets.py    connections whose other end vanishes are noticed
child.py      the child: carries out what the parent asks, and ends with it
host.py       what a child does with llama.cpp: load a model, open contexts, evaluate
process.py    the parent's end of a child: requests, time-outs, its death
weights.py    a model in a child, as a pair has it
context.py    a context in a child, as the scheduler has it (the model protocol)
"""
