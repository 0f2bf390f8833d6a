"""foreal serve: an OpenAI-compatible server. Parses, opens the port, loads the models, serves."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .. import __version__
from ..config import Generation, generation_of, prompting_of, runtime_of
from ..errors import InstallationError, UsageError
from ..method.roles import Role
from .command import ForealCommand, option
from .options import (
    loss_option,
    measured_in,
    method_options,
    mode_option,
    model_options,
    preset_option,
    prompting_options,
    sampling_options,
    settings_in,
)

if TYPE_CHECKING:
    from ..engine import Engine
    from ..pairs import PairEntry
    from ..server.serving import Serving

EPILOG = """\b
Examples:
  foreal serve --open
  foreal serve --pair qwen3-8b --parallel 4 --port 8000
  foreal serve -l leader.gguf -d draft.gguf --host 0.0.0.0 --api-key-file keys.txt
  curl http://127.0.0.1:8080/v1/chat/completions -d '{"messages": [{"role": "user", "content": "Hello"}]}'
Every option is also an environment variable: FOREAL_API_KEY=secret for --api-key.
Exit codes: 0 after Ctrl-C or SIGTERM, 1 where the port is in use, 2 usage."""

_FIRST = ("pair", "leader", "draft", "host", "port", "parallel", "ctx_size", "api_key", "mode", "open")  # fmt: skip
_EXTRA = ("starlette", "uvicorn", "pydantic", "prometheus_client", "anyio", "h11")


@click.command(cls=ForealCommand, first=_FIRST, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@option("--host", default="127.0.0.1", metavar="HOST", help="Address to listen at; 0.0.0.0: all.")
@option("--port", type=click.IntRange(0, 65535), default=8080, metavar="PORT", help="0: a free one.")
@option("--parallel", "-P", type=click.IntRange(1), default=4, metavar="N", help="Answers at a time.")
@option("--queue", type=click.IntRange(0), default=64, metavar="N", help="Requests that may wait for one of these.")
@option("--api-key", multiple=True, metavar="KEY", help="Requests need this key; repeatable.  [default: none]")
@option("--api-key-file", metavar="FILE", help="Keys, one on each line.")
@option(
    "--cors-origin", multiple=True, metavar="ORIGIN", help="Pages of this origin may ask, too; repeatable; * is all."
)
@option("--max-body", type=click.IntRange(1), default=16, metavar="MIB", help="Largest body of a request.")
@option("--grace", type=click.FloatRange(0), default=10.0, metavar="S", help="Seconds for running answers at the end.")
@option("--open", is_flag=True, help="Open the page in a browser when it is ready.", envvar=None)
@option("--quiet", "-q", is_flag=True, help="No progress, and no line for each request.")
@model_options()
@preset_option
@mode_option
@loss_option
@method_options
@sampling_options
@prompting_options
@click.version_option(__version__, prog_name="foreal serve")
@click.pass_context
def main(context: click.Context, /, **values: Any) -> None:
    """Answer OpenAI's API over HTTP with a pair, and show a page that says who wrote what.

    The settings are those of requests that say nothing else.
    """
    try:
        from ..server.app import Access
        from ..server.guard import Origins, origin_of
        from ..server.listening import listen
        from ..server.run import Options, serve
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _EXTRA:
            raise
        raise InstallationError(
            f"foreal serve needs {error.name}: install it with: pip install 'foreal-local[server]'"
        ) from None
    from .loading import with_models

    values, entry = with_models(values, context)
    access = Access(_keys(values), Origins(values["host"], [origin_of(each) for each in values["cors_origin"]]))
    options = Options(values["host"], access, values["grace"], values["quiet"], values["open"])
    server = _Loader(values, entry, context)
    sockets = listen(values["host"], values["port"])
    if not access.keys and not access.origins.is_loopback:
        _note(f"warning: everybody who reaches {values['host']} may ask: --api-key asks for a key")
    serve(sockets, server.serving, options, server.load, _note)


class _Loader:
    """From options to an engine.

    serving: what it will be given to
    """

    def __init__(self, values: dict[str, Any], entry: PairEntry | None, context: click.Context) -> None:
        from ..server.names import ModelNames
        from ..server.serving import Limits, Serving

        self._values, self._entry = values, entry
        by_name = settings_in(values)
        self._settings, self._prompting = generation_of(by_name), prompting_of(by_name)
        self._runtime, self._measured = runtime_of(by_name), measured_in(values, context)
        given = [role for role in Role if values[str(role)]]
        self._roles = list(Role) if entry or not given else given
        limits = Limits(values["parallel"], values["queue"], values["max_body"] * 2**20)
        self.serving: Serving = Serving(ModelNames.of(self._name(), self._roles), limits, _note)

    def _name(self) -> str:
        if self._entry:
            return self._entry.name
        return Path(self._values["leader"] or self._values["draft"]).name.removesuffix(".gguf")

    @contextmanager
    def load(self) -> Iterator[tuple[Engine, Generation]]:
        from ..batch.progress import Bars
        from ..engine import Engine
        from ..memory.fitting import fitting
        from ..method.modes import roles_of
        from .loading import pair_of

        values, settings = self._values, self._settings
        pair = pair_of(values, self._entry, {*self._roles, *roles_of(settings.mode)})
        fit, n_slots = fitting(values["fit"], _note), values["parallel"]
        pair, runtime = fit(pair, self._runtime, n_slots=n_slots, roles=self._roles)
        with Bars(not (values["quiet"] or runtime.verbose)).loading() as on_progress:
            engine = Engine(
                pair,
                runtime=runtime,
                n_slots=n_slots,
                roles=self._roles,
                settings=settings,
                prompting=self._prompting,
                on_progress=on_progress,
            )
        with engine:
            if self._measured and values["loss"] is not None:
                settings = engine.choose_mode(settings, self._measured, values["loss"])
            for role in self._roles:
                _note(f"{role} {engine.describe(role)}")
            yield engine, settings


def _keys(values: dict[str, Any]) -> list[str]:
    """The keys of the options; UsageError where a file of keys has none, or one cannot stand in a header."""
    keys = list(values["api_key"])
    if not keys and "FOREAL_API_KEY" in os.environ:  # as where a variable that it is made of is not set
        raise UsageError("FOREAL_API_KEY is empty, so that everybody could ask: give it a key, or unset it")
    if values["api_key_file"]:
        path = values["api_key_file"]
        try:
            lines = Path(path).expanduser().read_text("utf-8-sig").splitlines()
        except (OSError, ValueError) as error:
            raise UsageError(
                f"cannot read --api-key-file {path}: {getattr(error, 'strerror', None) or error}"
            ) from None
        found = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
        if not found:
            raise UsageError(f"--api-key-file {path} has no key: everybody could ask")
        keys += found
    if any(not key.strip() or not key.isprintable() or not key.isascii() or " " in key for key in keys):
        raise UsageError("--api-key: a key must be of visible ASCII characters, without spaces")
    return keys


def _note(text: str) -> None:
    click.echo(f"foreal serve: {text}", err=True)
