"""python -m foreal_local: the command `foreal`."""

from .cli.main import main

main(prog_name="foreal")
