"""What a machine has, whether a pair fits it, and what its modes would cost here.

examine.py    all of it, in order; findings.py has what is found
machine.py    what is wrong with the machine
models.py     the pair: its files, its plan
speed.py      what evaluations cost here, and modes therefore
report.py     the findings as lines of 80 columns
"""
