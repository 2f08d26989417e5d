"""Reads the modules of a package: what each one imports and uses of the others, and which of that is forbidden."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

PACKAGE = "pysandpool"
COMPILED = ("_core", "_core_hot")
CHECKING = {"TYPE_CHECKING", "typing.TYPE_CHECKING"}

# Rooms -> the rooms that they may use, besides themselves. Only __init__ may use them all.
MAY_USE = {
    "_errors": (),
    "_config": ("_errors",),
    "_ffi": ("_errors", *COMPILED),
    "_stem": ("_config",),
    "_backend": ("_errors", "_config", "_ffi", "_stem"),
    "_execute": ("_errors", "_config", "_ffi"),
    "_process": ("_errors", "_config", "_ffi", "_execute"),
    "_files": ("_errors", "_ffi", "_execute"),
    "_code": ("_errors", "_config", "_ffi", "_execute", "_process"),
    "_pool": ("_errors", "_config", "_ffi", "_backend", "_execute", "_process", "_files", "_code"),
    "_async": ("_errors", "_config", "_ffi", "_execute", "_process", "_files", "_code", "_pool"),
    "cli": ("_errors", "_config", "_ffi", "_backend", "_execute", "_process", "_pool"),
    "__main__": ("cli",),
}
# Rooms -> their modules in tiers: a module may use those of the tiers before its own, and none beside it.
TIERS = {
    "_config": (
        "fields syscalls",
        "duration environ paths seccomp",
        "bind interpreter workspace",
        "sandbox pool",
    ),
    "_backend": (
        "cgroup hint_texts machine python rlimits seccomp_profile undead",
        "container shown",
        "delegation engines",
        "forbidden",
        "hints",
        "doors interpreter missing seatbelt setid",
        "linux macos",
    ),
    "_execute": ("encode foreign text", "live options result", "passage run", "order"),
    "_process": ("arguments handle streams", "exchange", "options process"),
    "_files": ("bound request", "operation single", "tree upload", "calls download", "methods"),
    "_stem": (
        "awaiting channel compact display renew streams",
        "snippet",
        "ending preload",
        "tenant",
        "cells rehearsal",
        "waiting",
        "runtime",
        "source",
    ),
    "_code": (
        "options request result",
        "messages place",
        "order process",
        "birth cell",
        "branch",
        "state",
        "session",
        "methods",
    ),
    "_pool": (
        "stats",
        "isolation limits log snapshot",
        "core",
        "lease",
        "acquire upkeep workspace",
        "pool sandbox",
        "executor",
    ),
    "_async": (
        "backend done",
        "anyio_backend asyncio_backend queue",
        "acquire current run",
        "files stream",
        "writer",
        "communicate",
        "process session",
        "start",
        "lease",
        "pool sandbox",
    ),
    "cli": ("bench doctor_interpreter doctor_macos options say terminal", "doctor plot run", "main"),
}
# Modules that use no other at all.
LEAVES = ("_errors", "_config.fields", "_config.syscalls", "_backend.machine", "_pool.stats")


@dataclass
class Module:
    """What one file defines, and what it takes of other files of the package."""

    name: str
    """dotted, without the package: "_pool.core", "__init__"; a folder's own __init__ has the name of the folder"""
    tree: ast.Module
    defined: set[str] = field(default_factory=set)
    """names that the module makes itself at its top level"""
    modules: dict[str, str] = field(default_factory=dict)
    """{name in this file: the module of the package that it stands for}"""
    taken: list[tuple[str, str]] = field(default_factory=list)
    """(module, name) for each name of another module that this one imports or reads"""
    uses: set[str] = field(default_factory=set)
    """all modules that it imports or reads from"""
    hidden: set[str] = field(default_factory=set)
    """ways to reach a module that no reader of imports can follow"""


def breaches(package: Path) -> Iterator[str]:
    """One line for each import or use that the house forbids."""
    house = House(package)
    for module in house.modules.values():
        # Those of _stem run in another process, where they execute code and look at what it has imported. Nothing else
        # of the package is to be found there.
        if not (module.name.startswith("_stem.") and module.name != "_stem.source"):
            yield from sorted(f"{module.name} {way}" for way in module.hidden)
        for target in sorted(module.uses):
            if module.name in LEAVES or not allowed(module.name, target):
                yield f"{module.name} uses {target}"
        if module.name != "__init__":
            yield from sorted(set(house.detours(module)))


def unlisted(package: Path) -> Iterator[str]:
    """Modules that no table above knows, and rows without a module."""
    listed = {f"{room}.{name}" for room, tiers in TIERS.items() for tier in tiers for name in tier.split()}
    found = {name for name in House(package).modules if "." in name}
    yield from sorted(listed ^ found)


def allowed(user: str, target: str) -> bool:
    room, other = user.partition(".")[0], target.partition(".")[0]
    if user == "__init__" or target == room:
        return True
    if room != other:
        return other in MAY_USE.get(room, ())
    return _tier(target) < _tier(user)


def _tier(name: str) -> int:
    room, _, module = name.partition(".")
    return next((n for n, tier in enumerate(TIERS.get(room, ())) if module in tier.split()), len(TIERS.get(room, ())))


class House:
    """All modules of the package, read once."""

    def __init__(self, package: Path) -> None:
        self.modules: dict[str, Module] = {}
        for path in sorted(package.rglob("*.py")):
            parts = list(path.relative_to(package).with_suffix("").parts)
            if parts[-1] == "__init__" and len(parts) > 1:
                parts.pop()
            tree = ast.parse(path.read_text(encoding="utf-8"), path.name)
            self.modules[".".join(parts)] = Module(".".join(parts), tree)
        self.folders = {path.parent.name for path in package.glob("*/__init__.py")}
        for module in self.modules.values():
            self._read(module)

    def detours(self, module: Module) -> Iterator[str]:
        """Names that were taken from a module that does not define them."""
        for target, name in module.taken:
            found = self.modules.get(target)
            if found is not None and name not in found.defined and self._named(f"{target}.{name}") is None:
                yield f"{module.name} takes {name} from {target}, which does not define it"

    def _named(self, dotted: str) -> str | None:
        """`dotted` if it is a module, compiled or not."""
        return dotted if dotted in self.modules or dotted in COMPILED else None

    def _read(self, module: Module) -> None:
        nodes = list(_executed(module.tree))
        for node in nodes:
            if isinstance(node, ast.Import):
                self._import(module, node)
            elif isinstance(node, ast.ImportFrom):
                self._import_from(module, node)
        module.defined = set(_defined(module.tree))
        parts = {id(node.value) for node in nodes if isinstance(node, ast.Attribute)}
        for node in nodes:
            if not (isinstance(node, ast.Attribute) and id(node) in parts):
                self._expression(module, node)
        module.uses.discard(module.name)

    def _import(self, module: Module, node: ast.Import) -> None:
        for alias in node.names:
            first, _, rest = alias.name.partition(".")
            if first == PACKAGE:
                module.uses.add(self._longest(rest)[0])
                module.modules[alias.asname or first] = self._longest(rest)[0] if alias.asname else "__init__"

    def _import_from(self, module: Module, node: ast.ImportFrom) -> None:
        base = self._absolute(module, node)
        if base is None:
            return
        for alias in node.names:
            dotted = self._named(alias.name if base == "__init__" else f"{base}.{alias.name}")
            if alias.name == "*":
                module.hidden.add(f"imports * from {base}")
            elif dotted is not None:
                module.uses.add(dotted)
                module.modules[alias.asname or alias.name] = dotted
            else:
                module.uses.add(base)
                module.taken.append((base, alias.name))

    def _absolute(self, module: Module, node: ast.ImportFrom) -> str | None:
        """The module that the statement names; None when it is not one of the package."""
        words = (node.module or "").split(".")
        if not node.level:
            if words[0] != PACKAGE:
                return None
            return ".".join(words[1:]) or "__init__"
        here = [] if module.name == "__init__" else module.name.split(".")
        if module.name not in self.folders and here:
            here.pop()
        here = here[: len(here) - (node.level - 1)]
        return ".".join([*here, *(word for word in words if word)]) or "__init__"

    def _longest(self, dotted: str) -> tuple[str, list[str]]:
        """The longest module that `dotted` begins with, and the words behind it."""
        words = dotted.split(".") if dotted else []
        for end in range(len(words), 0, -1):
            if self._named(".".join(words[:end])):
                return ".".join(words[:end]), words[end:]
        return "__init__", words

    def _expression(self, module: Module, node: ast.AST) -> None:
        if isinstance(node, ast.Attribute):
            self._chain(module, node)
        elif isinstance(node, ast.Call):
            self._call(module, node)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            first, dot, rest = node.value.partition(".")
            if first == PACKAGE and dot and self._longest(rest)[0] != "__init__":
                module.uses.add(self._longest(rest)[0])

    def _chain(self, module: Module, node: ast.Attribute) -> None:
        """`package.room.module.name`, from whichever of them the file has imported."""
        words: list[str] = []
        inner: ast.expr = node
        while isinstance(inner, ast.Attribute):
            words.insert(0, inner.attr)
            inner = inner.value
        if not isinstance(inner, ast.Name):
            return
        if inner.id == "sys" and words[:1] == ["modules"]:
            module.hidden.add("looks into sys.modules")
        if inner.id in module.modules:
            base = module.modules[inner.id]
            self._take(module, words if base == "__init__" else [*base.split("."), *words])

    def _call(self, module: Module, node: ast.Call) -> None:
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        first = node.args[0] if node.args else None
        if name in {"import_module", "__import__"} and not isinstance(first, ast.Constant):
            module.hidden.add("imports by a computed name")
        if name in {"import_module", "__import__"} and isinstance(first, ast.Constant):
            target = str(first.value)
            if target == PACKAGE or target.startswith("."):
                module.hidden.add(f"imports {target} by its name")
        if name in {"exec", "eval"} and isinstance(node.func, ast.Name):
            module.hidden.add(f"calls {name}")
        if name == "getattr" and isinstance(first, ast.Name) and first.id in module.modules:
            second = node.args[1] if len(node.args) > 1 else None
            if isinstance(second, ast.Constant):
                self._take(module, [*module.modules[first.id].split("."), str(second.value)])
            else:
                module.hidden.add(f"reads a computed name of {module.modules[first.id]}")

    def _take(self, module: Module, words: list[str]) -> None:
        base, rest = self._longest(".".join(words))
        module.uses.add(base)
        if rest and not (rest[0].startswith("__") and rest[0].endswith("__")):
            module.taken.append((base, rest[0]))


def _executed(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those that only the type checker reads."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) in CHECKING:
            continue
        yield node
        yield from _executed(node)


def _defined(tree: ast.Module) -> Iterator[str]:
    """The names that the statements of a module's top level make, imports of the package's own left out."""
    for node in _top(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                yield from (name.id for name in ast.walk(target) if isinstance(name, ast.Name))


def _top(tree: ast.Module) -> Iterator[ast.stmt]:
    pending: list[ast.stmt] = list(tree.body)
    for node in pending:
        if isinstance(node, (ast.If, ast.Try)):
            pending += [*node.body, *node.orelse, *getattr(node, "finalbody", [])]
        yield node
