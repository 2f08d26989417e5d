"""Fills the configuration page from the code when the site is built. mkdocs calls `on_page_markdown`."""

from __future__ import annotations

import ast
import dataclasses
import enum
import inspect
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pysandpool

MARK = re.compile(r"^<!-- (fields|calls): (\w+) -->$", re.MULTILINE)

COST = "\n\nCost: "


@dataclasses.dataclass(frozen=True)
class Field:
    """One row of the reference."""

    name: str
    default: str
    allowed: str
    what: str
    cost: str


def on_page_markdown(markdown: str, **_: Any) -> str:
    """The page with each mark replaced by what it stands for."""
    return MARK.sub(lambda mark: {"fields": _fields, "calls": _calls}[mark[1]](mark[2]), markdown)


def fields_of(kind: type[Any]) -> Iterator[Field]:
    """The fields of a configuration class, in order."""
    texts = _attribute_docstrings(kind)
    default = kind()
    of_the_machine = {"max_processes": "192 + 4 * os.cpu_count()", "python": "sys.executable"}
    for field in dataclasses.fields(kind):
        what, _, cost = texts[field.name].partition(COST)
        yield Field(
            name=field.name,
            default=of_the_machine.get(field.name) or _shown(getattr(default, field.name)),
            allowed=_allowed(kind, field.name),
            what=what,
            cost=cost,
        )


def _attribute_docstrings(kind: type[Any]) -> dict[str, str]:
    """The strings that stand below the fields of a class."""
    # `__module__` says where the public name is; the code of a method knows the file.
    tree = ast.parse(Path(inspect.getfile(kind.__init__)).read_text(encoding="utf-8"))
    body = next(node for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.name == kind.__name__)
    found = {}
    for field, text in zip(body.body, body.body[1:]):
        named = isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if named and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
            found[field.target.id] = inspect.cleandoc(str(text.value.value))
    return found


def _allowed(kind: type[Any], name: str) -> str:
    """What the field may hold, in the words of the error that refuses a wrong value."""
    try:
        kind(**{name: object()})
    except (pysandpool.InvalidSandboxConfigError, pysandpool.InvalidPoolConfigError) as error:
        allowed = re.sub(r"\d{4,}", lambda digits: f"{int(digits[0]):,}", error.allowed)
        # The bound is the other field, of which this value has the default.
        allowed = re.sub(r"\d+$", "`max_size`", allowed) if name == "min_size" else allowed
        return allowed if "None" in allowed or not _takes_none(kind, name) else f"{allowed}, or None"
    raise AssertionError(f"{kind.__name__}.{name} takes anything")


def _takes_none(kind: type[Any], name: str) -> bool:
    try:
        kind(**{name: None})
    except (pysandpool.InvalidSandboxConfigError, pysandpool.InvalidPoolConfigError):
        return False
    return True


def _shown(default: Any) -> str:
    if isinstance(default, Mapping):
        return repr(dict(default))
    if isinstance(default, enum.Enum):
        return str(default)
    return f"{default:_}" if isinstance(default, int) and not isinstance(default, bool) else repr(default)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _fields(kind: str) -> str:
    lines = []
    for field in fields_of(getattr(pysandpool, kind)):
        lines += [f"### `{field.name}`", "", field.what, ""]
        lines += ["| default | allowed | cost |", "|---|---|---|"]
        lines += [f"| `{field.default}` | {_cell(field.allowed)} | {_cell(field.cost) or 'none'} |", ""]
    return "\n".join(lines)


def _calls(which: str) -> str:
    from pysandpool._config.seccomp import ALLOWABLE

    names = {name: price for name, price in ALLOWABLE.items() if bool(price) == (which == "priced")}
    if which == "harmless":
        return ", ".join(f"`{name}`" for name in sorted(names)) + "."
    rows = [(", ".join(f"`{n}`" for n in names if names[n] == price), price) for price in dict.fromkeys(names.values())]
    return "\n".join(["| calls | price |", "|---|---|", *(f"| {calls} | {_cell(price)} |" for calls, price in rows)])
