"""The fixtures of tests in which something is made to fail."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from strace import Tracer

from pysandpool._backend import linux


@pytest.fixture
def tracer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tracer:
    """Starts the zygotes of the test, and refuses them what it is told to refuse."""
    tracer = Tracer(tmp_path)
    monkeypatch.setattr(linux, "zygote_path", lambda: os.fspath(tracer.program))
    return tracer
