"""README and docs do what they say: code blocks run, links hold, and generated pages are whole."""

from __future__ import annotations

import importlib.util
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import full_tier
import pytest

import pysandpool
from pysandpool._config.seccomp import ALLOWABLE

ROOT = next(path for path in Path(__file__).resolve().parents if (path / "pyproject.toml").exists())
DOCS = ROOT / "docs"
README = ROOT / "README.md"
PAGES = sorted(
    path
    for path in (*ROOT.glob("*.md"), *DOCS.glob("*.md"), ROOT / "bench" / "README.md", ROOT / "examples" / "README.md")
    if path.is_file()
)
MAX_README_WORDS = 900

# What becomes of a block, by the word behind its fence. A block of another kind is an error.
RUN = "python"  # all of a page run in one process, one after the other
COMMANDS = "console"  # each line is looked up, and run where that is cheap
ELSEWHERE = "sh"  # for another machine; its title says for which
SHOWN = {"text", "ini", "c", "json", "yaml"}  # no code for a reader to run

FENCE = re.compile(r"^```(?P<info>[^\n]*)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"(?<=\n\n) {4}\S")


@dataclass(frozen=True)
class Block:
    """One fenced block of a page."""

    kind: str
    info: str
    body: str
    line: int


def blocks(text: str) -> list[Block]:
    found = []
    for match in FENCE.finditer(text):
        kind, _, info = match["info"].partition(" ")
        found.append(Block(kind, info.strip(), match["body"], text[: match.start()].count("\n") + 1))
    return found


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def problems(text: str) -> Iterator[str]:
    """Blocks that no test below would look at."""
    for block in blocks(text):
        if block.kind not in {RUN, COMMANDS, ELSEWHERE, *SHOWN}:
            yield f"line {block.line}: a block of the kind {block.kind!r}"
        elif block.kind == ELSEWHERE and not block.info.startswith('title="'):
            yield f"line {block.line}: sh without a title that says where it runs"
        elif block.kind == RUN and block.info:
            yield f"line {block.line}: a python block with an option: {block.info}"
    if text.count("\n```") % 2:
        yield "a fence is not closed"
    for match in INDENTED.finditer(FENCE.sub("", text)):
        yield f"an indented block: {text[match.start() : match.start() + 40]!r}"


def run_python(text: str) -> subprocess.CompletedProcess[str]:
    """Runs the python blocks of a page in one process. An error names the line of the page."""
    program = "".join(
        # Blank lines in front: a traceback then has the lines of the page.
        f"exec(compile({chr(10) * block.line + block.body!r}, 'page', 'exec'), page)\n"
        for block in blocks(text)
        if block.kind == RUN
    )
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", f"page = {{'__name__': '__main__'}}\n{program}"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


WITH_PYTHON = [path for path in PAGES if any(one.kind == RUN for one in blocks(path.read_text(encoding="utf-8")))]


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_every_block_is_of_a_kind_that_is_looked_at(path: Path) -> None:
    assert list(problems(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "path",
    [path for path in PAGES if any(b.kind == RUN for b in blocks(path.read_text(encoding="utf-8")))],
    ids=name_of,
)
def test_python_blocks_run(path: Path) -> None:
    done = run_python(path.read_text(encoding="utf-8"))
    assert done.returncode == 0, done.stderr


COMMAND_LINES = [
    pytest.param(line, id=f"{name_of(path)}: {line}")
    for path in PAGES
    for block in blocks(path.read_text(encoding="utf-8"))
    if block.kind == COMMANDS
    for line in block.body.splitlines()
    if line.strip()
]


def targets() -> set[str]:
    return set(
        re.findall(r"^([a-z][a-z-]*)(?=[ a-z-]*:)", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    )


def check_command(line: str) -> None:
    """Raises AssertionError unless the command exists; runs those of pysandpool itself."""
    words = shlex.split(line, comments=True)
    while "=" in words[0]:  # a variable in front of the command
        words = words[1:]
    if words[0] == "make":
        wanted = {word for word in words[1:] if "=" not in word}
        assert wanted <= targets(), f"no target of make: {wanted - targets()}"
    elif words[:3] == ["python", "-m", "pysandpool"]:
        done = subprocess.run(
            [sys.executable, *words[1:]], capture_output=True, text=True, check=False, timeout=120, cwd=ROOT
        )
        refused = words[3] == "doctor" and full_tier.refusal()  # it reports that, and exits with 1
        assert done.returncode == 0 or (refused and done.returncode == 1), done.stderr
    elif words[0] in {"python", "pytest"}:
        assert (ROOT / words[1]).exists(), words[1]
    else:
        assert words == ["pip", "install", "."], f"unknown command: {line}"


@pytest.mark.parametrize("line", COMMAND_LINES)
def test_commands_exist(line: str) -> None:
    check_command(line)


@pytest.mark.parametrize(
    "body", ["raise SystemExit(3)", "import pysandpool.planted", "assert pysandpool", "def broken(:", "1 / 0"]
)
def test_a_planted_broken_block_is_seen(body: str) -> None:
    assert run_python(f"# Page\n\n```python\nx = 1\n```\n\n```python\n{body}\n```\n").returncode != 0


def test_blocks_of_a_page_share_their_names_and_errors_have_the_lines_of_the_page() -> None:
    page = "# Page\n\n```python\nx = 1\n```\n\n```python\nassert x == 1\nassert x == 2\n```\n"
    assert 'File "page", line 9' in run_python(page).stderr


@pytest.mark.parametrize(
    "line", ["make planted", "python bench/planted.py", "rm -rf build", "python -m pysandpool planted"]
)
def test_a_planted_command_is_seen(line: str) -> None:
    with pytest.raises(AssertionError):
        check_command(line)


@pytest.mark.parametrize(
    "text",
    [
        "```\nx\n```\n",
        "```rust\nx\n```\n",
        "```sh\nx\n```\n",
        "```python no-run\nx\n```\n",
        "```text\nx\n",
        "Text:\n\n    make planted\n",
    ],
)
def test_a_block_that_no_test_looks_at_is_seen(text: str) -> None:
    assert list(problems(f"# Page\n\n{text}")) != []


def files() -> set[str]:
    """Every file of the repository, and each of its names: `a/b/c.h`, `b/c.h`, `c.h`."""
    folders = ("bench", "csrc", "docs", "examples", "pysandpool", "tests", "tools")
    found = [path.relative_to(ROOT).as_posix() for folder in folders for path in (ROOT / folder).rglob("*")]
    return {"/".join(name.split("/")[start:]) for name in found for start in range(name.count("/") + 1)}


def test_files_that_the_pages_name_are_there() -> None:
    there = files() | {path.name for path in ROOT.iterdir()}
    for path in PAGES:
        if path.name != "CHANGELOG.md":  # it tells of the past
            for name in re.findall(r"`((?!_)[\w./-]+\.(?:c|h|py|md|cdef))`", path.read_text(encoding="utf-8")):
                assert name in there, f"{name_of(path)}: {name}"


# --- README ----------------------------------------------------------------------------------------------


def test_the_readme_is_short() -> None:
    assert len(README.read_text(encoding="utf-8").split()) <= MAX_README_WORDS


def links(text: str) -> list[str]:
    return re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", text))


def test_links_of_the_readme_are_absolute_and_name_what_is_there() -> None:
    found = links(README.read_text(encoding="utf-8"))
    assert len(found) > 8
    for link in found:
        assert link.startswith("https://"), link
        if link.startswith("https://github.com/pysandpool/pysandpool/blob/main/"):
            assert (ROOT / link.split("/blob/main/")[1].partition("#")[0]).is_file(), link
        elif link.startswith("https://pysandpool.readthedocs.io/"):
            page = link.split(".io/")[1].partition("#")[0].strip("/") or "index"
            assert (DOCS / f"{page}.md").is_file(), link


def test_readme_and_docs_begin_with_the_same_ten_lines() -> None:
    first = next(block.body for block in blocks(README.read_text(encoding="utf-8")) if block.kind == RUN)
    assert len(first.splitlines()) <= 10
    index = (DOCS / "index.md").read_text(encoding="utf-8")
    assert next(block.body for block in blocks(index) if block.kind == RUN) == first


# --- the site --------------------------------------------------------------------------------------------


def test_every_public_name_is_in_the_reference() -> None:
    reference = (DOCS / "api.md").read_text(encoding="utf-8") + (DOCS / "configuration.md").read_text(encoding="utf-8")
    named = set(re.findall(r"^::: pysandpool\.(\w+)$|^<!-- fields: (\w+) -->$", reference, re.MULTILINE))
    assert {first or second for first, second in named} == set(pysandpool.__all__) - {"__version__"}


def test_the_configuration_page_has_every_field_and_call() -> None:
    spec = importlib.util.spec_from_file_location("hooks", DOCS / "hooks.py")
    assert spec is not None
    assert spec.loader is not None
    hooks = importlib.util.module_from_spec(spec)
    sys.modules["hooks"] = hooks
    spec.loader.exec_module(hooks)
    page = hooks.on_page_markdown((DOCS / "configuration.md").read_text(encoding="utf-8"))
    assert "<!--" not in page
    for kind in (pysandpool.SandboxConfig, pysandpool.PoolConfig):
        for field in hooks.fields_of(kind):
            assert f"### `{field.name}`\n\n{field.what}" in page
            assert len(field.what) > 20, field.name
            assert field.allowed, field.name
    assert all(f"`{name}`" in page for name in ALLOWABLE)


needs_mkdocs = pytest.mark.skipif(
    importlib.util.find_spec("mkdocs") is None, reason="the extra `docs` is not installed"
)


def build_site(folder: Path, site: Path) -> subprocess.CompletedProcess[str]:
    """Builds the site of `folder` with the command of `make docs`."""
    found = re.search(r"-m (mkdocs build .*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert found is not None
    command = [sys.executable, "-m", *shlex.split(found[1]), "--site-dir", str(site)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, cwd=folder)


@needs_mkdocs
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    done = build_site(ROOT, tmp_path)
    assert done.returncode == 0, done.stderr
    configuration = (tmp_path / "configuration" / "index.html").read_text(encoding="utf-8")
    for kind in (pysandpool.SandboxConfig, pysandpool.PoolConfig):
        for field in kind.__dataclass_fields__:
            assert f'id="{field}"' in configuration


@needs_mkdocs
@pytest.mark.parametrize(("target", "code"), [("other.md", 0), ("planted.md", 1), ("other.md#planted", 1)])
def test_a_planted_broken_link_fails_the_build(target: str, code: int, tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "index.md").write_text(f"# Page\n\n[link]({target})\n", encoding="utf-8")
    (docs / "other.md").write_text("# Other\n", encoding="utf-8")
    (tmp_path / "mkdocs.yml").write_text(
        f"INHERIT: {ROOT / 'mkdocs.yml'}\nnav: [index.md, other.md]\nplugins: []\nhooks: []\n", encoding="utf-8"
    )
    done = build_site(tmp_path, tmp_path / "site")
    assert done.returncode == code, done.stderr


# --- the measured table ----------------------------------------------------------------------------------


def table_rows(text: str, mark: str) -> dict[str, list[str]]:
    """The cells below the first column of a table that `bench/publish.py` has written, by row."""
    part = text.split(f"<!-- bench: {mark} -->")[1].split("<!-- end -->", maxsplit=1)[0]
    lines = [re.split(r" \| ", line.strip("| ")) for line in part.splitlines() if line.startswith("| ")]
    return {cells[0]: cells[1:] for cells in lines if cells[0] != "row"}


def test_the_rows_of_the_readme_are_those_of_the_whole_table() -> None:
    whole = table_rows((DOCS / "performance.md").read_text(encoding="utf-8"), "table")
    some = table_rows(README.read_text(encoding="utf-8"), "readme")
    assert list(some) == ["acquire", "echo", "cold", "jobs", "code"]
    for name, cells in some.items():
        figure, measured, baseline, ratio, budget, verdict, *_, count = whole[name]
        shown = verdict if verdict == "met" else f"**{verdict}**"
        assert cells == [figure, measured, baseline, ratio, f"{budget}, {shown}", count], name
