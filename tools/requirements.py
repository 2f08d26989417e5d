#!/usr/bin/env python3
"""Prints what extras of pyproject.toml need, one requirement a line: `tools/requirements.py lint`.

`pip install '.[lint]'` would compile the package again for it.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    from setuptools.compat.py310 import tomllib


def main(*extras: str) -> None:
    text = (Path(__file__).resolve().parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    known: dict[str, Any] = tomllib.loads(text)["project"]["optional-dependencies"]
    for extra in extras:
        print(*known[extra], sep="\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
