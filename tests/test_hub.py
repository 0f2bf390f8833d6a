"""Names of models and pairs, the choice of a file, and downloads by the real library from a stand-in hub."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest
from hub_server import COMMIT, HubServer, commit_of

from foreal_local import hub
from foreal_local.errors import DownloadError, ModelFileError, UsageError
from foreal_local.hub import resolve_model
from foreal_local.hub_names import HubName, choose_file, nearest_quant, parse_hub_name, quant_of
from foreal_local.pairs import DEFAULT_PAIR, find_pair, load_pairs

ROOT = Path(__file__).parent.parent
CLOSED = "http://127.0.0.1:9"  # nothing listens here
BIG = bytes(range(256)) * (12 * 4096)  # 12 MiB: over the 10 MiB that the library reads at a time

REPOS = {
    "org/Model-GGUF": {
        "README.md": b"# Model",
        "Model-Q4_K_M.gguf": b"medium",
        "Model-Q4_K_S.gguf": b"small",
        "Model-Q8_0.gguf": b"eight",
        "mmproj-Model-F16.gguf": b"eyes",
    },
    "org/Split-GGUF": {f"Q8_0/Split-Q8_0-0000{i}-of-00003.gguf": b"part %d" % i for i in (1, 2, 3)},
    "org/Big-GGUF": {"Big-Q8_0.gguf": BIG},
    "org/Gated-GGUF": {"Gated-Q4_K_M.gguf": b"secret"},
    "org/Weights": {"model.safetensors": b"weights", "mmproj-F16.gguf": b"eyes"},
}


# ---- names ----


@pytest.mark.parametrize(
    "spec",
    [
        "foo.gguf",
        "./x/y.gguf",
        "x/y.gguf",
        "../x/y",
        "/x/y",
        "~/x/y.gguf",
        "C:\\models\\x.gguf",
        "C:/models/x.gguf",
        "C:x.gguf",
        "models\\x.gguf",
        "\\\\server\\models\\x.gguf",
        "",
        "qwen3:8b",
        "a/b/c",
    ],
)
def test_paths_are_not_hub_names(spec: str) -> None:
    """A path with a typo, or one of Windows with its colon, must not be looked up on the hub."""
    assert parse_hub_name(spec) is None


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        ("org/Model-GGUF", HubName("org/Model-GGUF")),
        ("org/Model-1.5B-GGUF:q4_k_m", HubName("org/Model-1.5B-GGUF", quant="q4_k_m")),
        ("hf:org/Model:UD-Q4_K_XL", HubName("org/Model", quant="UD-Q4_K_XL")),
        ("hf.co/org/Model:Q8_0", HubName("org/Model", quant="Q8_0")),
        ("org/Model/Q8_0/x.gguf", HubName("org/Model", file="Q8_0/x.gguf")),
        ("org/Model:x.gguf", HubName("org/Model", file="x.gguf")),
        ("https://hf.co/org/Model/blob/main/x.gguf", HubName("org/Model", file="x.gguf")),
    ],
)
def test_hub_names(spec: str, name: HubName) -> None:
    assert parse_hub_name(spec) == name


@pytest.mark.parametrize("form", ["'{}'", '"{}"', "`{}`", "“{}”", " '{} ' ", "<{}>"])
def test_quotation_marks_around_a_name_are_no_part_of_it(form: str, tmp_path: Path) -> None:
    """Guards a name that was copied with its quotation marks, of a model on the hub or on the disk."""
    for name in ("org/Model-GGUF", "https://huggingface.co/org/Model-GGUF"):
        assert parse_hub_name(form.format(name)) == MODEL
    file = tmp_path / "my model.gguf"
    file.write_bytes(b"GGUF")
    assert resolve_model(form.format(file)) == file
    quoted = tmp_path / form.format("there")
    if "/" not in form:
        quoted.write_bytes(b"GGUF")
        assert resolve_model(str(quoted)) == quoted


REVISION = "0123456789abcdef0123456789abcdef01234567"
MODEL, Q8 = HubName("org/Model-GGUF"), HubName("org/Model-GGUF", file="M-Q8_0.gguf")


@pytest.mark.parametrize(
    "host", ["huggingface.co", "www.huggingface.co", "hf.co", "HuggingFace.co", "mirror.example:80"]
)
@pytest.mark.parametrize("scheme", ["https://", "http://", ""])
@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("org/Model-GGUF", MODEL),
        ("org/Model-GGUF/", MODEL),
        ("org/Model-GGUF:latest", MODEL),
        ("org/Model-GGUF.git", MODEL),
        ("org/Model-GGUF:Q8_0", replace(MODEL, quant="Q8_0")),
        ("org/Model-GGUF?library=llama-cpp-python", MODEL),
        ("org/Model-GGUF#provided-files", MODEL),
        ("org/Model-GGUF?show_file_info=M-Q8_0.gguf", Q8),
        ("org/Model-GGUF/tree/main", MODEL),
        ("org/Model-GGUF/tree/main/", MODEL),
        ("org/Model-GGUF/tree/main/Q4_K_M", replace(MODEL, folder="Q4_K_M")),
        ("org/Model-GGUF/tree/v1.0", replace(MODEL, revision="v1.0")),
        (f"org/Model-GGUF/tree/{REVISION}", replace(MODEL, revision=REVISION)),
        (f"org/Model-GGUF/commit/{REVISION}", replace(MODEL, revision=REVISION)),
        ("org/Model-GGUF/commits/main", MODEL),
        ("org/Model-GGUF/blob/main/M-Q8_0.gguf", Q8),
        ("org/Model-GGUF/resolve/main/M-Q8_0.gguf", Q8),
        ("org/Model-GGUF/resolve/main/M-Q8_0.gguf?download=true", Q8),
        ("org/Model-GGUF/raw/main/M-Q8_0.gguf", Q8),
        ("org/Model-GGUF/blob/main/sub%20dir/M-Q8_0.gguf", replace(MODEL, file="sub dir/M-Q8_0.gguf")),
        (f"org/Model-GGUF/blob/{REVISION}/M-Q8_0.gguf", replace(Q8, revision=REVISION)),
        ("org/Model-GGUF/blob/refs%2Fpr%2F1/M-Q8_0.gguf", replace(Q8, revision="refs/pr/1")),
        ("org/Model-GGUF/resolve/refs/pr/1/M-Q8_0.gguf", replace(Q8, revision="refs/pr/1")),
        ("org/Model-GGUF/discussions/3", MODEL),
        ("org/Model-GGUF/discussions", MODEL),
    ],
)
def test_links_of_the_site(host: str, scheme: str, path: str, name: HubName, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards links as people copy them, from the address bar or from a button, of which two shapes were known."""
    monkeypatch.setenv("HF_ENDPOINT", "https://mirror.example:80/")
    assert parse_hub_name(f" {scheme}{host}/{path}\n") == name


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        (" org/Model-GGUF\t", MODEL),
        ("org/Model-GGUF:LATEST", MODEL),
        ("org/Model-GGUF/", MODEL),
        ("org/Model-GGUF@main", MODEL),
        ("org/Model-GGUF@v1:Q8_0", replace(MODEL, quant="Q8_0", revision="v1")),
        ("org/Model-GGUF@v1/M-Q8_0.gguf", replace(Q8, revision="v1")),
        ("org/Model-GGUF@v1:M-Q8_0.gguf", replace(Q8, revision="v1")),
        ("hf://org/Model-GGUF@v1/M-Q8_0.gguf", replace(Q8, revision="v1")),
        ("hf://models/org/Model-GGUF", MODEL),
        ("org/Model-GGUF/blob/main/M-Q8_0.gguf", Q8),
        ("org/Model-GGUF/tree/main", MODEL),
    ],
)
def test_names_with_more_around_them(spec: str, name: HubName) -> None:
    assert parse_hub_name(spec) == name


@pytest.mark.parametrize("name", [MODEL, Q8, replace(Q8, revision="v1"), replace(MODEL, revision="v1", quant="Q8_0")])
def test_a_name_as_it_is_printed_can_be_given(name: HubName) -> None:
    """Guards errors that print a name that the program itself does not take."""
    assert parse_hub_name(str(name)) == name


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (
            "https://hf-mirror.com/org/Model",
            "link to hf-mirror.com, which is not the hub.*HF_ENDPOINT=https://hf-mirror",
        ),
        ("https://example.org/m.gguf", "download the file and give its path"),
        ("https://huggingface.co/datasets/org/data", "is a data set, not a model"),
        ("https://huggingface.co/spaces/org/space", "is a space, not a model"),
        ("https://huggingface.co/org", "is not a hub name"),
        ("https://huggingface.co/", "is not a hub name"),
    ],
)
def test_links_that_lead_to_no_model(spec: str, words: str) -> None:
    with pytest.raises(ModelFileError, match=words):
        parse_hub_name(spec)


def test_a_prefix_without_a_hub_name_is_an_error() -> None:
    with pytest.raises(ModelFileError, match="'hf:model' is not a hub name"):
        parse_hub_name("hf:model")


# ---- paths ----


def test_local_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file wins over the hub, also where its name looks like a hub name; ~ is the home folder."""
    (tmp_path / "org").mkdir()
    (tmp_path / "org" / "Model").write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert resolve_model("org/Model") == Path("org/Model")
    assert resolve_model("~/org/Model") == tmp_path / "org" / "Model"
    assert resolve_model(" org/Model\n") == Path("org/Model")
    (tmp_path / " x ").write_bytes(b"x")
    assert resolve_model(" x ") == Path(" x ")


@pytest.mark.parametrize("spec", ["foo.gguf", "./x/y.gguf", "C:\\models\\x.gguf", "x" * 300, "here/sub/y.gguf"])
def test_missing_path(spec: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path with a typo must not become a request to the hub, and says what can be given instead."""
    (tmp_path / "here").mkdir()  # so here/sub/y.gguf is a path, not a file of the repository here/sub
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelFileError) as caught:
        resolve_model(spec)
    assert spec in str(caught.value)
    assert "owner/repo[:quant]" in str(caught.value)


def test_directory_instead_of_file(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="is a directory: name a file in it"):
        resolve_model(str(tmp_path))


# ---- which file ----


@pytest.mark.parametrize(
    ("files", "quant", "chosen"),
    [
        ("M-Q4_K_M.gguf M-Q4_K.gguf", "Q4_K", "M-Q4_K.gguf"),
        ("M-Q4_0_4_4.gguf M-Q4_0.gguf M-IQ4_0.gguf", "q4_0", "M-Q4_0.gguf"),
        ("m-q4_k_m.gguf m-q8_0.gguf", "Q4_K_M", "m-q4_k_m.gguf"),
        ("M.i1-Q4_K_M.gguf M.i1-IQ3_M.gguf", "IQ3_M", "M.i1-IQ3_M.gguf"),
        ("M-UD-Q4_K_XL.gguf M-Q4_K_M.gguf", "Q4_K_XL", "M-UD-Q4_K_XL.gguf"),
        ("M-UD-Q2_K.gguf M-Q2_K.gguf", "Q2_K", "M-Q2_K.gguf"),
        ("M-UD-Q2_K.gguf M-Q2_K.gguf", "ud-q2_k", "M-UD-Q2_K.gguf"),
        ("M-BF16.gguf M-F16.gguf mmproj-F16.gguf", "f16", "M-F16.gguf"),
        ("M-mxfp4.gguf M-Q8_0.gguf", "MXFP4", "M-mxfp4.gguf"),
        ("M-fp16.gguf M-bf16.gguf M.gguf", "F16", "M-fp16.gguf"),
        ("M-F16.gguf M-Q8_0.gguf", "fp16", "M-F16.gguf"),
        ("M-f32.gguf M-Q8_0.gguf", "FP32", "M-f32.gguf"),
        ("M.i1-Q4_K_M.gguf M.i1-IQ3_M.gguf", "i1-Q4_K_M", "M.i1-Q4_K_M.gguf"),
        ("Q8_0/M-00001-of-00002.gguf Q8_0/M-00002-of-00002.gguf", "Q8_0", "Q8_0/M-00001-of-00002.gguf"),
        ("M-Q8_0.gguf M-Q4_K_M.gguf M-Q4_0.gguf", None, "M-Q4_K_M.gguf"),
        ("M-Q4_0.gguf M-Q8_0.gguf M-F16.gguf", None, "M-Q8_0.gguf"),
        ("M-F16.gguf M-Q4_0.gguf M-Q2_K.gguf", None, "M-Q4_0.gguf"),
        ("M-Q8_0.gguf M-UD-Q4_K_M.gguf", None, "M-UD-Q4_K_M.gguf"),
        ("mmproj-M-F16.gguf M.imatrix.gguf imatrix_M.gguf M-mmproj-Q8_0.gguf any.gguf", None, "any.gguf"),
        ("M-MXFP4.gguf eagle3-M-Q8_0.gguf eagle3-M-BF16.gguf", None, "M-MXFP4.gguf"),
        ("M-Q8_0.gguf MTP/mtp-M-Q8_0.gguf M-DFlash-Q8_0.gguf dflash-M-Q8_0.gguf", "Q8_0", "M-Q8_0.gguf"),
        ("M-MTP-Q4_K_M.gguf mtp-M-Q4_K_M.gguf", None, "M-MTP-Q4_K_M.gguf"),
        ("Eagle2-Q4_K_M.gguf M-Eagle3-Q4_K_M.gguf Smtp-Q8_0.gguf", None, "Eagle2-Q4_K_M.gguf"),
        ("M-imatrix-Q6_K.gguf", None, "M-imatrix-Q6_K.gguf"),
    ],
)
def test_choice(files: str, quant: str | None, chosen: str) -> None:
    assert choose_file(files.split(), HubName("org/M", quant)) == chosen


@pytest.mark.parametrize(
    ("files", "quant", "message"),
    [
        (
            "M-Q4_K_M.gguf M-Q4_0_4_4.gguf",
            "Q4_K",
            r"no Q4_K file; did you mean org/M:Q4_K_M\? it has: Q4_0_4_4, Q4_K_M",
        ),
        ("M-Q4_0_4_4.gguf", "Q4_0", r"org/M has no Q4_0 file; did you mean org/M:Q4_0_4_4\? it has: Q4_0_4_4"),
        ("M-Q4_K_M.gguf M-Q8_0.gguf", "Q5_K_M", "org/M has no Q5_K_M file; it has: Q4_K_M, Q8_0"),
        ("M-Q6_K.gguf M-Q5_K_M.gguf", None, "org/M has several files.*org/M:QUANT: Q5_K_M, Q6_K"),
        ("A-Q8_0.gguf B-Q8_0.gguf", "Q8_0", "several files.*A-Q8_0.gguf, B-Q8_0.gguf"),
        ("A-Q8_0.gguf B-Q8_0.gguf", None, "several files.*A-Q8_0.gguf, B-Q8_0.gguf"),
        ("model.safetensors", None, "org/M has no .gguf file"),
        ("mmproj-F16.gguf", "F16", "org/M has no .gguf file"),
    ],
)
def test_no_choice_says_what_there_is(files: str, quant: str | None, message: str) -> None:
    with pytest.raises(ModelFileError, match=message):
        choose_file(files.split(), HubName("org/M", quant))


def test_files_of_a_folder() -> None:
    """Guards tree links of repositories with a folder for each quant."""
    files = ["Q4_K_M/M-Q4_K_M.gguf", "Q8_0/M-Q8_0.gguf", "Q8_01/M-F16.gguf"]
    assert choose_file(files, HubName("org/M", folder="Q8_0")) == "Q8_0/M-Q8_0.gguf"
    with pytest.raises(ModelFileError, match=r"org/M, folder Q2_K, has no \.gguf file"):
        choose_file(files, HubName("org/M", folder="Q2_K"))


def test_a_file_that_is_not_there() -> None:
    """Guards a typo in a long name, a quant written as a file, and the link of a file that is no model."""
    files = ["Model-1.5B-Q4_K_M.gguf", "Model-1.5B-Q8_0.gguf", "README.md"]
    with pytest.raises(
        ModelFileError, match=r"no file 'Model-1\.5-Q8_0\.gguf'; did you mean 'Model-1\.5B-Q8_0\.gguf'\?"
    ):
        choose_file(files, HubName("org/M", file="Model-1.5-Q8_0.gguf"))
    with pytest.raises(ModelFileError, match=r"'README\.md' of org/M is no \.gguf file; it has: Model-1\.5B-Q4"):
        choose_file(files, HubName("org/M", file="README.md"))
    assert choose_file(files, HubName("org/M", file="q8_0.gguf")) == "Model-1.5B-Q8_0.gguf"


@pytest.mark.parametrize(
    ("quant", "meant"),
    [
        ("Q4", "Q4_K_M"),
        ("q4km", "Q4_K_M"),
        ("4bit", "Q4_K_M"),
        ("Q8", "Q8_0"),
        ("int8", "Q8_0"),
        ("Q6", "Q6_K"),
        ("F16", "BF16"),
        ("Q5_K_M", None),
        ("fast", None),
    ],
)
def test_the_quant_that_was_meant(quant: str, meant: str | None) -> None:
    assert nearest_quant(quant, {"Q4_K_S", "Q4_0", "Q4_K_M", "IQ4_XS", "Q8_0", "Q6_K", "BF16"}) == meant


@pytest.mark.parametrize(
    ("file", "quant"),
    [("F16-Q4_K_M.gguf", "Q4_K_M"), ("Q8_0/M.gguf", "Q8_0"), ("M-Q2go.gguf", None), ("FAQ4.gguf", None)],
)
def test_quant_of(file: str, quant: str | None) -> None:
    """The tag is a word of its own, and the last one: before it stands the model's name."""
    assert quant_of(file) == quant


# ---- the hub, with the real library in a process of its own: it reads the environment when imported ----

CHILD = """
import json, sys
from foreal_local.errors import ForealError
from foreal_local.hub import resolve_model
offline, *specs = sys.argv[1:]
for spec in specs:
    try:
        print(json.dumps([str(resolve_model(spec, offline=offline == "offline")), None, ""]), flush=True)
    except ForealError as error:
        print(json.dumps([None, type(error).__name__, str(error)]), flush=True)
"""


class Outcome(NamedTuple):
    path: str | None
    error: str | None
    message: str

    def content(self) -> bytes:
        assert self.path, self.message
        return Path(self.path).read_bytes()


Resolve = Callable[..., list[Outcome]]


@pytest.fixture
def resolve(tmp_path: Path) -> Resolve:
    """Runs `resolve_model` for some specs against a hub, with one cache for the whole test."""

    def run(url: str, *specs: str, offline: bool = False, **env: str) -> list[Outcome]:
        clean = {key: value for key, value in os.environ.items() if not key.upper().startswith(("HF_", "HUGGING"))}
        clean |= {"PYTHONPATH": str(ROOT), "HF_HOME": str(tmp_path / "hf"), "HF_ENDPOINT": url, **env}
        clean |= {"NO_PROXY": "127.0.0.1", "HF_HUB_DISABLE_TELEMETRY": "1"}
        command = [sys.executable, "-c", CHILD, "offline" if offline else "online", *specs]
        done = subprocess.run(command, env=clean, cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        assert "%|" not in done.stderr, "a progress bar outside of a terminal"
        outcomes = [Outcome(*json.loads(line)) for line in done.stdout.splitlines()]
        assert not any("\n" in outcome.message for outcome in outcomes), "an error is one line"
        return outcomes

    return run


@pytest.fixture
def server() -> Iterator[HubServer]:
    with HubServer({repo: dict(files) for repo, files in REPOS.items()}) as running:
        yield running


def test_download_then_cache(server: HubServer, resolve: Resolve) -> None:
    """The right files come; a second call asks for no content; offline makes no request at all."""
    specs = [
        "org/Model-GGUF:q4_k_s",
        "org/Model-GGUF",
        "org/Model-GGUF/Model-Q8_0.gguf",
        "org/Split-GGUF:Q8_0",
    ]
    first = resolve(server.url, *specs)
    assert [outcome.content() for outcome in first] == [b"small", b"medium", b"eight", b"part 1"]
    folder = Path(first[3].path or "").parent
    assert sorted(path.name for path in folder.iterdir()) == [f"Split-Q8_0-0000{i}-of-00003.gguf" for i in (1, 2, 3)]
    assert len(server.bodies()) == 6

    assert resolve(server.url, *specs) == first
    assert len(server.bodies()) == 6

    server.log.clear()
    assert resolve(server.url, *specs, offline=True) == first
    assert resolve(server.url, *specs, HF_HUB_OFFLINE="1") == first
    assert server.log == []


def test_offline_chooses_among_what_is_cached(server: HubServer, resolve: Resolve) -> None:
    """Offline without a quant takes what is there, and what is not there is named with a way to get it."""
    resolve(server.url, "org/Model-GGUF:Q8_0")
    server.log.clear()
    found, missed = resolve(server.url, "org/Model-GGUF", "org/Model-GGUF:Q4_K_M", offline=True)
    (unknown,) = resolve(server.url, "org/Other-GGUF", HF_HUB_OFFLINE="1")
    assert found.content() == b"eight"
    assert missed.error == unknown.error == "DownloadError"
    assert "has no Q4_K_M file; it has: Q8_0; get it once with a connection" in missed.message
    assert "nothing of org/Other-GGUF is there; get it once with a connection" in unknown.message
    assert server.log == []


def test_other_revisions(server: HubServer, resolve: Resolve) -> None:
    """Guards a revision that is dropped, so that a pinned model is another one: online, and from the cache."""
    repo = "org/Model-GGUF"
    server.revisions = {(repo, name): {"Model-Q8_0.gguf": name.encode()} for name in ("v1", "a" * 40, "refs/pr/1")}
    specs = [
        f"{repo}@v1",
        f"{server.url}/{repo}/tree/v1",
        f"https://huggingface.co/{repo}/blob/{'a' * 40}/Model-Q8_0.gguf",
        f"https://hf.co/{repo}/resolve/refs%2Fpr%2F1/Model-Q8_0.gguf?download=true",
        f"{repo}:Q8_0",
    ]
    found = resolve(server.url, *specs)
    expected = [b"v1", b"v1", b"a" * 40, b"refs/pr/1", b"eight"]
    assert [outcome.content() for outcome in found] == expected
    assert f"/{commit_of('v1')}/" in (found[0].path or "")

    server.log.clear()
    assert resolve(server.url, *specs, offline=True) == found
    short, missed, main = resolve(server.url, f"{repo}@aaaaaaa", f"{repo}@v2", f"{repo}/tree/main", offline=True)
    assert short.content() == b"a" * 40
    assert f"nothing of {repo} at v2 is there" in missed.message
    assert main.content() == b"eight"
    assert server.log == []

    (unknown,) = resolve(server.url, f"{repo}@v2:Q8_0")
    assert unknown.error == "ModelFileError"
    assert unknown.message.startswith(f"{repo} has no revision 'v2'")
    (same,) = resolve(server.url, f"{repo}@{COMMIT}:Q8_0")
    assert same.content() == b"eight"


def test_offline_needs_all_parts(server: HubServer, resolve: Resolve) -> None:
    """A split model of which a part is missing would fail only when it is loaded."""
    (outcome,) = resolve(server.url, "org/Split-GGUF")
    Path(outcome.path or "").with_name("Split-Q8_0-00002-of-00003.gguf").unlink()
    (outcome,) = resolve(server.url, "org/Split-GGUF", offline=True)
    assert outcome.error == "DownloadError"
    assert "nothing of org/Split-GGUF is there" in outcome.message


def test_offline_after_an_update_of_the_repository(server: HubServer, resolve: Resolve) -> None:
    """Files fetched before the update stay usable, which the library alone forgets; newer ones come first."""
    before, _ = resolve(server.url, "org/Model-GGUF:Q4_K_M", "org/Model-GGUF:Q8_0")
    server.commit = "d" * 40
    server.repos["org/Model-GGUF"]["Model-Q8_0.gguf"] = b"better"
    (after,) = resolve(server.url, "org/Model-GGUF:Q8_0")
    assert after.content() == b"better"
    assert resolve(server.url, "org/Model-GGUF", "org/Model-GGUF:Q8_0", offline=True) == [before, after]


def test_no_connection(server: HubServer, resolve: Resolve) -> None:
    """Without a connection the cache will do; what it lacks is a short error at once, without retries."""
    (online,) = resolve(server.url, "org/Model-GGUF")
    cached, missed = resolve(CLOSED, "org/Model-GGUF", "org/Big-GGUF")
    assert cached == online
    assert missed.error == "DownloadError"
    assert f"cannot fetch 'org/Big-GGUF' from {CLOSED}" in missed.message
    assert "check the connection" in missed.message


def test_wrong_names(server: HubServer, resolve: Resolve) -> None:
    repo, quant, file, weights, invalid = resolve(
        server.url,
        "org/Modell-GGUF",
        "org/Model-GGUF:Q9_K",
        "org/Model-GGUF/nope.gguf",
        "org/Weights",
        "org/a--b",
    )
    assert {outcome.error for outcome in (repo, quant, file, weights, invalid)} == {"ModelFileError"}
    assert "no repository org/Modell-GGUF on the hub" in repo.message
    assert "owner/repo[:quant]" in repo.message
    assert quant.message == "org/Model-GGUF has no Q9_K file; it has: Q4_K_M, Q4_K_S, Q8_0"
    assert "has no file 'nope.gguf'; it has: Model-Q4_K_M.gguf, Model-Q4_K_S.gguf" in file.message
    assert "org/Weights has no .gguf file" in weights.message
    assert "'org/a--b' is not a hub name" in invalid.message
    assert server.bodies() == []


def test_gated(server: HubServer, resolve: Resolve) -> None:
    """A gated repository can be listed by anyone, so the refusal comes with its file."""
    server.gated["org/Gated-GGUF"] = "hf_right"
    (stranger,) = resolve(server.url, "org/Gated-GGUF")
    (wrong,) = resolve(server.url, "org/Gated-GGUF", HF_TOKEN="hf_wrong")
    (right,) = resolve(server.url, "org/Gated-GGUF", HF_TOKEN="hf_right")
    assert stranger.error == wrong.error == "DownloadError"
    assert f"org/Gated-GGUF is gated: accept its licence at {server.url}/org/Gated-GGUF" in stranger.message
    assert "HF_TOKEN" in stranger.message
    assert right.content() == b"secret"


@pytest.mark.parametrize(
    ("where", "status", "hint"),
    [
        ("/api/", 403, "HF_TOKEN"),
        ("/resolve/", 403, "HF_TOKEN"),
        ("/resolve/", 410, "answers 410 for 'org/Model-GGUF': try again later"),
    ],
)
def test_other_answers(server: HubServer, resolve: Resolve, where: str, status: int, hint: str) -> None:
    """For a file, the library says no more than that it is not in the cache; the answer is in the cause."""
    server.status = where, status
    (outcome,) = resolve(server.url, "org/Model-GGUF")
    assert outcome.error == "DownloadError"
    assert hint in outcome.message


def test_cut_connection_is_resumed(server: HubServer, resolve: Resolve) -> None:
    """The rest of the file is asked for, not the whole file again.

    Versions from 1.18 do so inside the call, the older ones with the next call.
    """
    server.cut_at = len(BIG) - 1000
    outcomes = resolve(server.url, "org/Big-GGUF", "org/Big-GGUF")
    assert outcomes[-1].content() == BIG
    first, second = server.bodies()
    assert first.range is None
    assert second.range is not None
    assert int(second.range.removeprefix("bytes=").rstrip("-")) >= 10 * 2**20


def test_short_download(server: HubServer, resolve: Resolve) -> None:
    """A file shorter than announced must not be taken for the model, now or by the next call."""
    server.drop = 2
    (outcome,) = resolve(server.url, "org/Model-GGUF")
    assert outcome.error == "DownloadError"
    assert "cannot fetch 'org/Model-GGUF'" in outcome.message
    assert "run it again" in outcome.message
    server.drop = 0
    (outcome,) = resolve(server.url, "org/Model-GGUF")
    assert outcome.content() == b"medium"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "disk full: 'org/Model-GGUF' does not fit into"),
        (RuntimeError("xet: No space left on device"), "disk full"),
        (PermissionError(errno.EACCES, "Permission denied"), "cannot write 'org/Model-GGUF' to .*HF_HOME"),
        (RuntimeError("two\nlines."), r"cannot fetch 'org/Model-GGUF' from .* \(two\): check the connection"),
    ],
)
def test_errors_of_the_disk(error: Exception, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DownloadError, match=message):
        _fail_with(error, monkeypatch)


def test_ctrl_c_passes_through(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C during a download is the user's, not a failed download."""
    with pytest.raises(KeyboardInterrupt):
        _fail_with(KeyboardInterrupt(), monkeypatch)


def _fail_with(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    """Resolve a name while the library's listing fails with `error`."""
    import huggingface_hub

    def fail(*args: object, **options: object) -> None:
        raise error

    monkeypatch.setattr(huggingface_hub, "model_info", fail)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", "/nowhere")
    resolve_model("org/Model-GGUF")


def test_progress_bars_can_be_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """progress=False holds for its own call and leaves the library as it was."""
    from huggingface_hub import constants
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled

    seen: list[bool] = []
    monkeypatch.setattr(hub, "files_on_hub", lambda name: [None])
    monkeypatch.setattr(hub, "check_room", lambda files: None)
    monkeypatch.setattr(hub, "fetch", lambda file, say: seen.append(are_progress_bars_disabled()))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    resolve_model("org/Model-GGUF", progress=False)
    resolve_model("org/Model-GGUF")
    assert seen == [True, False]


def test_import_is_light() -> None:
    """`foreal --help` and local files must not wait for the hub's library."""
    code = "import sys, foreal_local.hub, foreal_local.pairs as pairs; pairs.find_pair('tiny'); "
    code += "print('huggingface_hub' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


# ---- pairs ----


@pytest.fixture
def own_pairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The path of the user's pairs file, which does not exist yet."""
    monkeypatch.delenv("FOREAL_PAIRS", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "foreal").mkdir()
    return tmp_path / "foreal" / "pairs.toml"


def test_bundled_pairs(own_pairs: Path) -> None:
    """The bundled pair is two files beside pairs.toml; the others are hub names."""
    pairs = load_pairs()
    tiny = pairs.pop(DEFAULT_PAIR)
    assert (tiny.leader, tiny.draft) == tuple(
        str(ROOT / "models" / f"tiny-{role}.gguf") for role in ("leader", "draft")
    )
    assert {"r1-32b", "qwen3-8b"} <= set(pairs)
    for pair in pairs.values():
        for spec in (pair.leader, pair.draft):
            name = parse_hub_name(spec)
            assert name is not None
            assert name.quant


def test_unknown_pair(own_pairs: Path) -> None:
    with pytest.raises(UsageError, match=r"no pair named 'Tinny'; did you mean 'tiny'\? \(there are: tiny, r1-32b"):
        find_pair("Tinny")
    with pytest.raises(UsageError, match=r"no pair named 'zzzz' \(there are: tiny"):
        find_pair("zzzz")


def test_own_pairs(own_pairs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user's table replaces the bundled pair of its name; relative paths count from the user's file."""
    own_pairs.write_text(
        textwrap.dedent(
            """
            [tiny]
            leader = "sub/a.gguf"
            draft = "org/Model-GGUF:Q8_0"
            p = 1
            n = 25
            temp = 0.0

            [mine]
            leader = "~/a.gguf"
            draft = "/models/b.gguf"

            [pasted]
            leader = " https://huggingface.co/org/Model-GGUF/blob/v1/M-Q8_0.gguf "
            draft = "org/Model-GGUF@v1:Q8_0"
            """
        ),
        encoding="utf-8-sig",
    )
    tiny = find_pair("tiny")
    assert tiny.leader == str(own_pairs.parent / "sub" / "a.gguf")
    assert tiny.draft == "org/Model-GGUF:Q8_0"
    assert (tiny.note, tiny.settings) == ("", {"n": 25, "p": 1, "temp": 0.0})
    assert find_pair("mine").leader == str(Path("~/a.gguf").expanduser())
    assert "r1-32b" in load_pairs()
    pasted = find_pair(" pasted ")
    assert pasted.leader == "https://huggingface.co/org/Model-GGUF/blob/v1/M-Q8_0.gguf"
    assert pasted.draft == "org/Model-GGUF@v1:Q8_0"

    named = own_pairs.with_name("other.toml")
    named.write_text('[other]\nleader = "a.gguf"\ndraft = "b.gguf"\n')
    monkeypatch.setenv("FOREAL_PAIRS", str(named))
    assert find_pair("other").draft == str(named.parent / "b.gguf")
    assert "mine" not in load_pairs()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[x", "not valid TOML"),
        ("x = 1", "pair 'x' in .* is not a table"),
        ('[x]\nleader = "a.gguf"', "names no draft"),
        ('[x]\nleader = "https://example.org/a"\ndraft = "b.gguf"', "pair 'x'.* leader: .*link to example.org"),
        ('[x]\nleader = "a.gguf"\ndraft = "b.gguf"\ntop = 1', "unknown key 'top'"),
        ('[x]\nleader = "a.gguf"\ndraft = "b.gguf"\nn = 1.5', "n cannot be 1.5"),
        ('[x]\nleader = "a.gguf"\ndraft = "b.gguf"\nk = true', "k cannot be True"),
    ],
)
def test_own_pairs_with_a_mistake(own_pairs: Path, text: str, message: str) -> None:
    own_pairs.write_text(text)
    with pytest.raises(UsageError, match=message) as caught:
        load_pairs()
    assert str(own_pairs) in str(caught.value)


def test_named_pairs_file_must_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOREAL_PAIRS", str(tmp_path / "none.toml"))
    with pytest.raises(UsageError, match=r"cannot read the pairs file .*none\.toml: No such file"):
        load_pairs()


def test_bundled_dir_of_an_installed_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In site-packages the folder lies inside the package; a stranger's `models` beside it is not ours."""
    package = tmp_path / "foreal_local"
    package.mkdir()
    (tmp_path / "models").mkdir()
    monkeypatch.setattr(hub, "__file__", str(package / "hub.py"))
    with pytest.raises(ModelFileError, match="install the package again"):
        hub.bundled_dir()
    (package / "models").mkdir()
    (package / "models" / "pairs.toml").touch()
    assert hub.bundled_dir() == package / "models"
