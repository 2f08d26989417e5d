"""Source trees that a test of the house writes itself, with a breach in them."""

from __future__ import annotations

from pathlib import Path


def planted(folder: Path, files: dict[str, str]) -> Path:
    """Writes `files`, {path below `folder`: text}, and returns `folder`."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder
