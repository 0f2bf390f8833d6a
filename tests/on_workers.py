"""`foreal` with workers that are pretended, as a script: `python on_workers.py gen ... --leader-rpc 127.0.0.1:5`.

The role's model is in a child, all of it: no build with RPC is needed. The folder of FAKE_WORKERS says what happens:

    dies_at    a number: the child ends itself at the evaluation of this number from then on; the file is `gone` then
    gone       no worker answers
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

TESTS = Path(__file__).parent
ON_WORKERS = [sys.executable, str(Path(__file__).absolute())]


def main() -> None:
    from foreal_local.cli.main import main as foreal
    from foreal_local.errors import WorkerError
    from foreal_local.runtime import llama, loaded
    from foreal_local.runtime.remote import weights
    from foreal_local.runtime.remote.addresses import Address

    gone = Path(os.environ["FAKE_WORKERS"]) / "gone"

    def require_answer(address: Address, role: str, seconds: float = 3.0) -> None:
        if gone.exists():
            raise WorkerError(f"the {role}'s worker {address} cannot be reached: Connection refused")

    llama.require_rpc = lambda: None
    loaded.require_answer = weights.require_answer = require_answer
    weights.HOST = "local_host:LocalHost"
    foreal()


if __name__ == "__main__":
    sys.path[0] = str(TESTS.parent)
    sys.path.append(str(TESTS))  # for the child
    main()
