"""docs/architecture.md says of the code what is so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = next(path for path in Path(__file__).resolve().parents if (path / "pyproject.toml").exists())
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
TREE = PAGE.split("## Folders")[1].split("```")[1]

# A static variable that can change: no function, and nothing constant.
STATIC = re.compile(
    r"^\s*static (?![^;{=]*\bconst\b)(?![^;{=]*\w\()[^;{=]*?(\w+)\)?(?:\[\w*\])? ?(?:;|= )", re.MULTILINE
)
OF_A_THREAD = re.compile(r"^static _Thread_local struct \{[^}]*\} (\w+);", re.MULTILINE)


def mutable_statics(text: str) -> set[str]:
    text = text.replace("_Atomic(", "_Atomic (")  # no call
    return {match[1] for pattern in (STATIC, OF_A_THREAD) for match in pattern.finditer(text)}


def test_every_mutable_static_of_the_host_is_in_the_architecture() -> None:
    rows = [line.split("|") for line in PAGE.split("| variable | file |")[1].split("\n\n")[0].splitlines()[2:]]
    told = {(row[2].strip(" `"), name) for row in rows for name in re.findall(r"`(\w+)`", row[1])}
    found = {
        (path.name, name)
        for folder in ("common", "host")
        for path in (ROOT / "csrc" / folder).rglob("*.[ch]")
        for name in mutable_statics(path.read_text(encoding="utf-8"))
    }
    assert found == told


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("static int planted;", {"planted"}),
        ("    static atomic_uint planted;", {"planted"}),
        ("static struct thing planted[4] = {{0}};", {"planted"}),
        ("static char *planted = NULL;", {"planted"}),
        ("static _Atomic(char *) planted;", {"planted"}),
        ("static _Thread_local struct {\n    int a;\n} planted;", {"planted"}),
        ("static const int fine = 1;", set()),
        ("static const char *const fine[] = {0};", set()),
        ("static int fine(void);", set()),
        ("static int fine(int a) {", set()),
        ("static inline uint32_t fine(uint64_t l) { return 0; }", set()),
    ],
)
def test_a_planted_static_is_seen(line: str, names: set[str]) -> None:
    assert mutable_statics(f"/* x */\n{line}\n") == names


def test_every_file_of_zygote_and_init_is_in_the_table() -> None:
    rows = PAGE.split("<!-- file-table -->")[1].split("<!-- end-file-table -->")[0].strip().splitlines()[2:]
    for column, folder in ((2, "zygote"), (3, "init")):
        told = re.findall(r"`(\w+)`", " ".join(row.split("|")[column] for row in rows))
        files = (path.stem for path in (ROOT / "csrc" / folder).glob("*.[ch]"))
        assert sorted(told) == sorted({name.removesuffix("_linux") for name in files}), folder


def folders_of(tree: str) -> set[str]:
    """The paths of the folders in an indented tree, two blanks a level."""
    found = set()
    above: list[str] = []
    for line in tree.splitlines():
        names = line.split("   ")[0] if line.strip() and line[0] != " " else line[: line.find("   ", 5)]
        depth = (len(line) - len(line.lstrip())) // 2
        for name in names.split():
            if name.endswith("/"):
                above[depth:] = [name]
                found.add("".join(above).rstrip("/"))
    return found


def test_the_tree_of_the_page_has_the_folders() -> None:
    found = {
        path.relative_to(ROOT).as_posix()
        for top in ("csrc", "pysandpool")
        for path in (ROOT / top, *(ROOT / top).rglob("*"))
        if path.is_dir() and not {"__pycache__", "_bin"} & set(path.parts)
    }
    assert folders_of(TREE) == found


def test_a_planted_folder_is_seen() -> None:
    assert folders_of("a/\n  b/   c/     text/\n    d/       text\n") == {"a", "a/b", "a/c", "a/c/d"}


def slot_table(text: str) -> list[list[str]]:
    """The rows of the table that opens slot.c."""
    found = re.search(r"^ \*   event .*?\n(?= \*\n)", text, re.MULTILINE | re.DOTALL)
    assert found is not None
    lines = found[0].splitlines()
    starts = [match.start() for match in re.finditer("-+", lines[1])]
    return [[line[start:end].strip() for start, end in zip(starts, [*starts[1:], None])] for line in lines[2:]]


def test_the_states_of_a_slot_are_the_same_in_code_model_and_page() -> None:
    rows = slot_table((ROOT / "csrc/host/pool/slot.c").read_text("utf-8"))
    shown = PAGE.split("<!-- slot-table -->")[1].split("<!-- end-slot-table -->")[0].strip().splitlines()[2:]
    assert [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in shown] == rows
    assert slot_table((ROOT / "tests/native/model/pool.pml").read_text("utf-8")) == rows


def test_each_row_is_a_transition_and_no_other_file_writes_a_word() -> None:
    events = {row[0] for row in slot_table((ROOT / "csrc/host/pool/slot.c").read_text("utf-8"))}
    header = (ROOT / "csrc/host/pool/slot.h").read_text("utf-8")
    transitions = set(re.findall(r"\bsp_slot_(\w+)\(struct sp_slot \*", header))
    assert transitions == events
    writes = re.compile(r"atomic_(?:store|exchange|fetch_\w+|compare_exchange_\w+)\([^;]*?\bword\b")
    writers = {
        path.relative_to(ROOT / "csrc").as_posix()
        for path in (ROOT / "csrc" / "host").rglob("*.[ch]")
        for write in writes.findall(path.read_text("utf-8"))
        if "slot" in write
    }
    assert writers == {"host/pool/slot.c"}
