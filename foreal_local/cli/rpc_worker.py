"""foreal rpc-worker: this machine's memory and compute for models on others. Parses, looks at the address, serves."""

from __future__ import annotations

import errno
import os
import signal
import socket
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .. import __version__
from ..errors import ForealError, UsageError
from .command import ForealCommand, option

if TYPE_CHECKING:
    from ..runtime.remote.addresses import Address

EPILOG = """\b
Examples:
  foreal rpc-worker --listen 127.0.0.1:50052
  foreal rpc-worker --listen 192.168.1.20:50052 --threads 16
  foreal chat -l leader.gguf -d draft.gguf --leader-rpc 192.168.1.20:50052,192.168.1.21:50052
It offers its GPUs, or its processor where there is none; CUDA_VISIBLE_DEVICES chooses among GPUs. It serves one model
at a time. docs/scale.md has a way through SSH, and says when it pays.
Exit codes: 0 after Ctrl-C or SIGTERM, 1 where the port is in use, 2 usage."""

_GB = 1e9


@click.command(cls=ForealCommand, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@option(
    "--listen", default="127.0.0.1:50052", metavar="HOST:PORT", help="Address to listen at: loopback or private ones."
)
@option("--threads", "-t", type=click.IntRange(1, 512), metavar="N", help="Threads.  [default: one per core]")
@option("--cache", metavar="FOLDER", help="Keep large tensors there: they are not sent again when a model is loaded.")
@option("--allow-public", is_flag=True, help="Listen at an address that is not private, without any protection.")
@click.version_option(__version__, prog_name="foreal rpc-worker")
def main(**values: Any) -> None:
    """Offer this machine's memory and compute to a model that another machine runs (--leader-rpc, --draft-rpc).

    llama.cpp's RPC has no protection of its own: whoever reaches the port can use it, and may take over this machine.
    """
    from ..runtime import llama
    from ..runtime.hardware import usable_cores
    from ..runtime.remote.addresses import WARNING, address_of
    from ..runtime.remote.sockets import watch_connections

    address = address_of(values["listen"], "--listen", allow_public=values["allow_public"])
    llama.require_rpc()
    cache, threads = _folder(values["cache"]), values["threads"] or usable_cores()
    _require_free(address)
    if not address.is_loopback:
        _note(f"warning: {WARNING}")
    for device in llama.offered():
        _note(f"offers {device.name}, {device.description}, {device.free / _GB:.1f} GB")
    _note(f"listens at {address}; Ctrl-C ends it")
    watch_connections()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _leave)
    serving = threading.Thread(target=llama.serve_worker, args=(address.endpoint, threads, cache), daemon=True)
    serving.start()
    while serving.is_alive():  # signals are handled in this thread, which C code would keep from it
        serving.join(0.5)
    raise ForealError(f"llama.cpp does not listen at {address} any more: start it again")


def _leave(*_: object) -> None:
    """At once: the other thread is in C code, and has nothing to save."""
    sys.stdout.flush()
    os._exit(0)


def _folder(name: str | None) -> str | None:
    """The folder for tensors, made where it is not there."""
    if name is None:
        return None
    folder = Path(name).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--cache is {name!r}, which cannot be a folder: {error.strerror or error}") from None
    return str(folder)


def _require_free(address: Address) -> None:
    """ForealError where llama.cpp could not listen there: it says nothing to a program."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((address.ip, address.port))
            trial.listen(1)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise ForealError(f"{address} is in use: end what listens there, or name another port") from None
            why = error.strerror or error
            raise UsageError(f"--listen is {str(address)!r}, where this machine cannot listen: {why}") from None


def _note(text: str) -> None:
    click.echo(f"foreal rpc-worker: {text}", err=True)
