"""Which module may know which: design.md's layout, read from the sources, and what an import really loads."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "foreal_local"
SOURCES = sorted(PACKAGE.rglob("*.py"))

# What each folder, or module beside them, may import; itself always.
_SETTINGS = {"errors", "settings", "model_files", "running", "config"}
_CORE = _SETTINGS | {"method", "runtime"}
_ENGINE = _CORE | {
    "alone",
    "choice",
    "digest",
    "flops",
    "results",
    "lane",
    "offline",
    "saving",
    "caller",
    "asynchronous",
    "by_name",
    "engine",
    "storage",
}
ALLOWED = {
    "errors": set(),
    "documents": {"errors"},
    "settings": {"errors"},
    "model_files": {"errors", "method"},
    "running": {"errors", "settings"},
    "config": {"errors", "settings", "method", "model_files", "running"},  # of the method only its tables: see below
    "method": _SETTINGS,
    "runtime": _SETTINGS | {"method"},
    "flops": _CORE,
    "results": _CORE | {"flops"},
    "digest": _CORE,
    "storage": _CORE | {"results"},
    "lane": _CORE | {"digest", "results"},
    "saving": _CORE | {"lane", "storage"},
    "offline": _CORE | {"results", "lane", "saving", "storage"},
    "by_name": _SETTINGS,
    "caller": _CORE | {"results", "saving"},
    "asynchronous": _CORE | {"caller", "results", "lane", "saving", "storage"},
    "engine": _CORE | {"choice", "results", "lane", "offline", "asynchronous", "by_name", "storage"},
    "hub_names": {"errors"},
    "downloads": {"errors", "hub_names"},
    "hub": {"downloads", "errors", "hub_names"},
    "catalog": _CORE | {"hub", "hub_names"},
    "presets": _SETTINGS,
    "choice": _SETTINGS | {"method"},
    "tally": _CORE,
    "alone": _CORE | {"results"},
    "pairs": _SETTINGS | {"hub", "hub_names"},
    "loading": _ENGINE | {"hub", "hub_names", "memory", "pairs"},
    "memory": _CORE,
    "palette": set(),
    "wrapping": set(),
    "chat": _ENGINE | {"documents", "palette", "presets", "tally", "wrapping"},
    "batch": _ENGINE | {"documents", "memory", "palette", "tally", "wrapping"},
    "evaluation": _ENGINE | {"batch", "documents", "hub", "hub_names", "memory", "palette", "presets"},
    "cluster": _ENGINE | {"batch", "documents", "hub", "loading", "memory", "palette"},
    "server": _ENGINE | {"presets"},
    "doctor": _ENGINE | {"memory"},
}
ANYTHING = {"", "cli", "__main__"}
BELOW_THE_SETTINGS = {
    "modes",
    "gates",
    "flows",
    "requests",
    "review",
    "rules",
    "borders",
    "hits",
    "proposals",
    "speculation",
    "reasoning",
    "roles",
    "sentences",
    "view",
    "tokens",
}
"""Modules of the method that know no settings: the tables of names that these check against, and what they name."""


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def _loaded(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those below `if TYPE_CHECKING:`, which names types and loads nothing."""
    yield node
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING"):
            yield from _loaded(child)


def imported(path: Path) -> set[str]:
    """Modules of this package that a source imports anywhere, by their name under foreal_local."""
    here = list(path.relative_to(PACKAGE).parent.parts)
    found = set()
    for node in _loaded(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").startswith("foreal_local")):
            base = here[: len(here) - node.level + 1] if node.level else []
            base = base + [part for part in (node.module or "").split(".") if part and part != "foreal_local"]
            for alias in node.names:
                module = ".".join([*base, alias.name])
                inner = PACKAGE.joinpath(*base, alias.name)
                known = inner.with_suffix(".py").exists() or (inner / "__init__.py").exists()
                found.add(module if known else ".".join(base))
        elif isinstance(node, ast.Import):
            found |= {a.name.partition(".")[2] for a in node.names if a.name.startswith("foreal_local.")}
    return found - {""}


GRAPH = {name_of(path): imported(path) for path in SOURCES}


def folder_of(module: str) -> str:
    return module.partition(".")[0]


@pytest.mark.parametrize("module", sorted(GRAPH))
def test_imports_point_one_way(module: str) -> None:
    """Guards a lower folder that comes to know a higher one: the method a model, the runtime a file."""
    folder = folder_of(module)
    if folder in ANYTHING:
        return
    above = {other for other in GRAPH[module] if folder_of(other) not in ALLOWED[folder] | {folder}}
    assert not above, f"{module} imports {sorted(above)}"


def test_nobody_imports_the_command_line() -> None:
    """Guards code that only a command line can use: a server and Python users have none."""
    users = {m for m, others in GRAPH.items() for other in others if folder_of(other) == "cli"}
    assert {folder_of(user) for user in users} <= {"cli", "__main__"}


@pytest.mark.parametrize("folder", ["evaluation", "method", "runtime", "server", "storage"])
def test_what_programs_use_does_without_click(folder: str) -> None:
    """Guards a part of the command line that has moved here with its options and its way to print."""
    for path in sorted((PACKAGE / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            assert "click" not in {name.partition(".")[0] for name in names}, path


def test_the_tables_of_names_know_no_settings() -> None:
    """Guards a circle: a setting is checked against the names of modes and gates."""
    for name in BELOW_THE_SETTINGS:
        assert GRAPH[f"method.{name}"] <= {f"method.{other}" for other in BELOW_THE_SETTINGS}
    settings = {"config", "method.settings"}  # the method's own settings stand on the tables as well
    for module in settings:
        assert {other for other in GRAPH[module] if other.startswith("method.")} - settings <= {
            f"method.{name}" for name in BELOW_THE_SETTINGS
        }


def test_no_circles() -> None:
    """Guards two modules that need each other."""
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join([*path, module])
        if module not in done:
            for other in GRAPH.get(module, ()):
                visit(other, (*path, module))
            done.add(module)

    for module in GRAPH:
        visit(module, ())


def test_the_flow_knows_no_model_and_no_numbers() -> None:
    """Guards the method's file: settings and roles are all it may see."""
    names = ("requests", "review", "roles", "rules", "speculation")
    assert GRAPH["method.flows"] == {f"method.{name}" for name in names}
    assert "numpy" not in (PACKAGE / "method" / "flows.py").read_text(encoding="utf-8")


def importers(package: str) -> set[Path]:
    """The sources that import another package, anywhere in them."""
    found = set()
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            if any(name.partition(".")[0] == package for name in names):
                found.add(path.relative_to(PACKAGE))
    return found


def test_one_folder_imports_llama_cpp() -> None:
    """Guards a second folder that talks to C."""
    assert {path.parent.as_posix() for path in importers("llama_cpp")} == {"runtime/llama"}


def test_one_module_imports_ray() -> None:
    """Guards a second module that needs Ray, which most do not have."""
    assert {path.as_posix() for path in importers("ray")} == {"cluster/ray_data.py"}


_WITHOUT_LLAMA = ["runtime.scheduler", "results", "evaluation.benchmark", "evaluation.reports.bench_table", "pairs"]


@pytest.mark.parametrize("module", ["foreal_local", *(f"foreal_local.{name}" for name in _WITHOUT_LLAMA)])
def test_a_fresh_interpreter_does_not_load_llama_cpp(module: str) -> None:
    """Guards an import that loads the native library where nothing needs it (--help, the tests on fakes)."""
    code = f"import sys, {module}; print([name for name in sys.modules if name.startswith('llama_cpp')])"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=PACKAGE.parent, capture_output=True, text=True, check=True, timeout=60
    )
    assert result.stdout.strip() == "[]"


def test_public_names_are_sorted() -> None:
    """Guards an __all__ that is not in order, or that names what is not there."""
    for path in SOURCES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in tree.body:
            targets = node.targets if isinstance(node, ast.Assign) else []
            if any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets):
                assert isinstance(node, ast.Assign)
                names = ast.literal_eval(node.value)
                assert list(names) == sorted(names), path
                assert len(set(names)) == len(names), path


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_every_module_says_what_it_is_for(path: Path) -> None:
    """Guards a module without a docstring."""
    source = path.read_text(encoding="utf-8")
    assert not source or ast.get_docstring(ast.parse(source))
