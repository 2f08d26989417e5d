"""docs/protocol.md says what csrc/common/wire.h has: every record and field, its type and range, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = next(path for path in Path(__file__).resolve().parents if (path / "pyproject.toml").exists())
COMMON = ROOT / "csrc" / "common"
PAGE = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
HEADER = (COMMON / "wire.h").read_text(encoding="utf-8")
SOURCE = (COMMON / "wire.c").read_text(encoding="utf-8")
# The struct that carries the fields of each record; the others have none.
STRUCT_OF = {
    "CONFIG": "config",
    "CREATED": "created",
    "BIND": "bind",
    "ATTACH": "attach",
    "READY": "ready",
    "EXEC": "exec",
    "SPAWN": "exec",
    "SIGNAL": "signal",
    "ACK": "id",
    "ADOPT": "id",
    "KILL": "id",
    "EXITED": "exited",
    "FAILED": "failed",
    "FILE": "file",
    "FILED": "filed",
}
CHECK = re.compile(r"(?:->|\.)(\w+) = (?:\(uint32_t\))?(get(?:32)?)\(&?r, (.*)\);")
SIZES = {"uint32_t": "u32", "uint64_t": "u64", "char": "104 bytes"}


def section(title: str, page: str) -> str:
    """The text below a heading of level two or three, up to the next one of its level."""
    found = re.search(rf"^(##+) {re.escape(title)}\n(.*?)(?=^##\s|\Z)", page, re.MULTILINE | re.DOTALL)
    assert found, title
    text = found[2]
    return re.split(r"^### ", text, flags=re.MULTILINE)[0] if found[1] == "###" else text


def rows(text: str, header: str) -> list[list[str]]:
    """The cells of the first table whose first column is called `header`."""
    lines = text.splitlines()
    start = next((i for i, line in enumerate(lines) if line.startswith(f"| {header} |")), None)
    if start is None:
        return []
    table = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        table.append([cell.strip().strip("`") for cell in line.strip("|").split("|")])
    return table


def record_kinds(header: str) -> list[str]:
    body = header.split("enum sp_record_type {")[1].split("\n};", maxsplit=1)[0]
    return [name for name in re.findall(r"^ +SP_REC_(\w+)", body, re.MULTILINE) if name != "TYPE_END"]


def fields(struct: str, header: str) -> dict[str, str]:
    body = header.split(f"struct sp_rec_{struct} {{")[1].split("};", maxsplit=1)[0]
    return {name: SIZES[kind] for kind, name in re.findall(r"(uint\d+_t|char) (\w+)(?:\[\w+\])?;", body)}


def ranges(struct: str) -> dict[str, str]:
    """What wire.c accepts of each field of a struct, as the page writes it."""
    found = {}
    for name, call, arguments in CHECK.findall(reader(struct)):
        bounds = arguments.split(", ")
        found[name] = f"{bounds[1]} … {bounds[2]}" if call == "get" else f"0 … {bounds[0]}"
    return found


def reader(struct: str) -> str:
    if f"get_{struct}(" in SOURCE:
        return SOURCE.split(f"static void get_{struct}(")[1].split("\n}")[0]
    return SOURCE.split(f"case SP_REC_{ {'ready': 'READY', 'id': 'KILL'}[struct] }:", 2)[2].split("break;")[0]


def differences(page: str, header: str) -> list[str]:
    """What the page and the header do not agree on."""
    found = []
    kinds = record_kinds(header)
    listed = [(row[0], re.sub(r"\[(\w+)\].*", r"\1", row[1])) for row in rows(section("Records", page), "number")]
    if listed != [(str(number), kind) for number, kind in enumerate(kinds, 1)]:
        found.append(f"records: {listed}")
    if re.findall(r"^### (\w+)$", page, re.MULTILINE) != kinds:
        found.append("headings")
    for kind in set(kinds) & {row[1] for row in listed}:
        struct = STRUCT_OF.get(kind)
        wanted = fields(struct, header) if struct else {}
        told = {row[0]: row[1] for row in rows(section(kind, page), "field")}
        if list(told.items()) != list(wanted.items()):
            found.append(f"{kind}: {told}")
    return found


def test_every_record_and_field_is_there_and_no_other() -> None:
    assert differences(PAGE, HEADER) == []


@pytest.mark.parametrize("kind", sorted(STRUCT_OF))
def test_the_ranges_are_those_that_are_checked(kind: str) -> None:
    told = {row[0]: row[2] for row in rows(section(kind, PAGE), "field") if row[2] != "any"}
    assert told == ranges(STRUCT_OF[kind])


def test_the_flags_are_those_of_the_header() -> None:
    wanted = re.findall(r"#define (SP_CONFIG_\w+) (\d+)u", HEADER)
    told = [(row[0], row[1]) for row in rows(section("CONFIG", PAGE), "flag")]
    assert told == [pair for pair in wanted if pair[0] != "SP_CONFIG_FLAGS"]


def test_the_operations_and_flags_of_files_are_those_of_the_header() -> None:
    flags = re.findall(r"#define (SP_FILE_[A-Z]+) (\d+)u", HEADER)
    told = [(row[0], row[1]) for row in rows(section("FILE", PAGE), "file flag")]
    assert told == [pair for pair in flags if pair[0] != "SP_FILE_FLAGS"]
    operations = re.findall(r"^ +(SP_FILE_\w+)(?: = 1)?,", HEADER, re.MULTILINE)
    told = [(row[0], row[1]) for row in rows(section("FILE", PAGE), "operation")]
    assert told == [(name, str(number)) for number, name in enumerate(operations, 1)]


def test_facts_and_stages_are_those_of_the_headers() -> None:
    facts = re.findall(r'X\((\w+), "([^"]+)"\)', (COMMON / "fact.h").read_text(encoding="utf-8"))
    told = rows(section("Facts", PAGE), "bit")
    assert told == [[str(bit), name, words] for bit, (name, words) in enumerate(facts)]
    stages = re.findall(r'X\(\w+, "([^"]+)"\)', (COMMON / "stage.h").read_text(encoding="utf-8"))
    told = rows(section("Stages", PAGE), "number")
    assert [row[:2] for row in told] == [[str(number), word] for number, word in enumerate(stages)]


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("SP_RECORD_SIZE", "128", "`SP_RECORD_SIZE` = 128 bytes"),
        ("SP_WIRE_VERSION", "7", "`SP_WIRE_VERSION` = 7"),
        ("SP_WIRE_MAGIC", "0x4c4f4f50u", "`SP_WIRE_MAGIC` = 0x4c4f4f50"),
        ("SP_PAYLOAD_MAX", "(8u * 1024 * 1024)", "`SP_PAYLOAD_MAX` = 8 MiB"),
        ("SP_PACKET_MAX", "(32 * 1024)", "`SP_PACKET_MAX` = 32 KiB"),
        ("SP_PACKET_FDS", "5", "`SP_PACKET_FDS` = 5 descriptors"),
        ("SP_DETAIL_SIZE", "104", "| `detail` | 104 bytes |"),
    ],
)
def test_the_sizes_are_those_of_the_headers(name: str, value: str, text: str) -> None:
    headers = HEADER + (COMMON / "packet.h").read_text(encoding="utf-8")
    assert re.search(rf"#define {name} {re.escape(value)}(\s|$)", headers)
    assert text in " ".join(PAGE.split())


def test_a_difference_is_seen() -> None:
    more = HEADER.replace("struct sp_rec_ready {", "struct sp_rec_ready {\n    uint32_t planted;")
    assert len(differences(PAGE, more)) == 1
    more = HEADER.replace("SP_REC_TYPE_END", "SP_REC_PLANTED,\n    SP_REC_TYPE_END", 1)
    assert differences(PAGE, more) != []
    assert differences(PAGE.replace("| `envc` | u32 |", "| `envc` | u64 |"), HEADER) != []
    assert differences(PAGE.replace("| `envc` | u32 |", "| `planted` | u32 |"), HEADER) != []
