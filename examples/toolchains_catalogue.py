"""The toolchains of the folder `toolchains`: what each needs, which commands try it, and the files that they use."""

from __future__ import annotations

import importlib.util
import io
import json
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pysandpool import Sandbox, SandboxConfig

FOLDER = Path(__file__).resolve().parent / "toolchains"
DESCRIPTION = "toolchain.json"
KINDS = {"language": "Languages", "python": "Python packages", "tool": "Tools and servers"}
LOOK = """
for need; do
    case $need in
    /*) test -e "$need" ;;
    *) command -v "$need" ;;
    esac || echo "$need" >&2
done
"""
HELLO, SUM = "hello\n", "36\n"


@dataclass(frozen=True)
class Check:
    """A command of the shell, and what tells that it worked: its whole output, or words that occur in it."""

    command: str
    output: str = ""
    words: str = ""

    def passed(self, output: str) -> bool:
        return output == self.output if self.output else self.words in output


@dataclass(frozen=True)
class Toolchain:
    """One folder. `needs` are programs, or paths, that a sandbox must have; `modules` those of the host's Python."""

    name: str
    title: str
    kind: str
    install: str
    version: str
    hello: Check
    needs: Sequence[str] = ()
    modules: Sequence[str] = ()
    compile: str = ""
    threads: Check | None = None
    tests: Check | None = None
    runner: str = ""
    note: str = ""
    config: dict[str, Any] = field(default_factory=dict)

    def files(self) -> bytes:
        """The folder's files as a tar archive."""
        folder = FOLDER / self.name
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            for path in sorted(folder.rglob("*")):
                if path.name != DESCRIPTION and path.is_file() and "__pycache__" not in path.parts:
                    archive.add(path, arcname=str(path.relative_to(folder)))
        return packed.getvalue()

    def missing(self) -> str:
        """Which program, path or module is not there, or ""."""
        lost = [module for module in self.modules if importlib.util.find_spec(module) is None]
        with Sandbox(SandboxConfig()) as sandbox:
            result = sandbox.execute(["sh", "-c", LOOK, "sh", *self.needs])
        return ", ".join([*lost, *result.stderr.decode().split()])


def load(names: Sequence[str] = ()) -> list[Toolchain]:
    """All toolchains, or those that are named, in the order of the page. Raises ValueError for an unknown name."""
    known = {path.parent.name: path for path in sorted(FOLDER.glob(f"*/{DESCRIPTION}"))}
    if unknown := set(names) - set(known):
        raise ValueError(f"no such toolchain: {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    found = [_toolchain(name, json.loads(path.read_text("utf-8"))) for name, path in known.items()]
    order = list(KINDS)
    return sorted((one for one in found if not names or one.name in names), key=lambda one: order.index(one.kind))


def _toolchain(name: str, described: dict[str, Any]) -> Toolchain:
    tests = described.pop("tests", None)
    threads = described.pop("threads", None)
    config = described.pop("config", {})
    if described.get("modules"):
        config["fs_python"] = True
    return Toolchain(
        name=name,
        hello=Check(described.pop("hello"), HELLO),
        threads=Check(threads, SUM) if threads else None,
        tests=Check(tests["run"], words=tests["prints"]) if tests else None,
        runner=tests["runner"] if tests else "",
        config=config,
        **described,
    )
