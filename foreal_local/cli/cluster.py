"""--ray: the options of a run on a Ray cluster, and what makes no sense there."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from .command import RUNNING, option, together

if TYPE_CHECKING:
    from ..batch.request import BatchRequest
    from ..cluster.run import ClusterRun
    from ..config import Pair
    from ..method.roles import Role
    from ..pairs import PairEntry

_HERE = "."
"""What --ray without an address means."""
_REASONS = {
    "trace": "a trace is written by one process",
    "format": "results are JSON lines, in parts",
    "reasoning": "answers are not shown",
    "loss": "it chooses a mode by the speed of one machine",
}
_HARMLESS = (None, "jsonl", "auto", "hide")
"""Values of these options that say nothing else than what --ray does."""

ray_options = together(
    option(
        "--ray",
        is_flag=False,
        flag_value=_HERE,
        metavar="[ADDRESS]",
        section=RUNNING,
        help="Answer on a Ray cluster, with results in parts in the folder --output: the cluster at ADDRESS, else that "
        "of RAY_ADDRESS, else one that is started on this machine for it.",
    ),
    option(
        "--ray-actors",
        type=int,
        metavar="N",
        section=RUNNING,
        help="Pairs of models on the cluster, each with --threads CPUs or a GPU.  [default: as many as have room]",
    ),
)


def check_ray(values: dict[str, Any], *refused: str) -> bool:
    """Whether --ray is given; UsageError where another option goes without it only, or with it only.

    refused: options of the command that go without it only
    """
    if values["ray"] is None:
        if values["ray_actors"] is not None:
            raise UsageError("--ray-actors is for --ray, which is missing")
        return False
    for name in refused:
        if values[name] not in _HARMLESS:
            raise UsageError(f"--{name} cannot be used with --ray: {_REASONS[name]}")
    return True


def cluster_run(
    values: dict[str, Any], entry: PairEntry | None, prompts: Any = ()
) -> Callable[[BatchRequest, Callable[[set[Role]], Pair]], ClusterRun]:
    """What makes a run of a request and a pair, as BatchRun does.

    prompts: more prompts than the request has
    """
    from ..cluster.run import ClusterOptions, ClusterRun
    from ..cluster.work import Models, named_anywhere

    leader, draft = (entry.leader, entry.draft) if entry else (values["leader"], values["draft"])
    models = Models(
        named_anywhere(leader or draft),
        named_anywhere(draft or leader),
        (values["leader_gpu_layers"], values["draft_gpu_layers"]),
        values["pair"],
        values["offline"],
    )
    address = "" if values["ray"] == _HERE else values["ray"]
    options = ClusterOptions(address, values["ray_actors"], values["fit"])
    return lambda request, pair_for: ClusterRun(request, pair_for, models, options, prompts)
