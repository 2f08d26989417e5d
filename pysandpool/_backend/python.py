"""Where the Python that runs this process is installed, for `SandboxConfig.fs_python`."""

from __future__ import annotations

import os
import sys

from pysandpool._config.paths import is_below, is_system
from pysandpool._config.sandbox import SandboxConfig

_MAX_LINKS = 40
"""As the kernel has it."""


def readonly_paths(config: SandboxConfig) -> tuple[str, ...]:
    """`fs_readonly`, and the directories of this Python that the other fields do not show, with `fs_python` or where
    it is the interpreter of the sandboxes."""
    if not shows_python(config):
        return config.fs_readonly

    def is_missing(path: str) -> bool:
        return path not in config.fs_readwrite and not any(is_below(path, shown) for shown in config.fs_readonly)

    return (*config.fs_readonly, *filter(is_missing, python_paths()))


def shows_python(config: SandboxConfig) -> bool:
    """Whether the sandboxes show the Python that runs this process. A `rootfs` has a Python of its own."""
    is_interpreter = config.interpreter is not None and config.interpreter.is_own and config.rootfs is None
    return config.fs_python or is_interpreter


def python_paths(
    prefixes: tuple[str, ...] = (sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix),
) -> list[str]:
    """The installation's directories and those to which its interpreters link; none that every sandbox shows anyway.

    In a virtual environment `bin/python` links to the interpreter of another installation, often over several links.
    Each directory on the way is part of the result, under the name that the link uses and under its real one.
    """
    found: dict[str, None] = {}
    for prefix in prefixes:
        _add(found, prefix)
    for prefix in prefixes:
        for name in ("python", "python3"):
            for path in _chain(os.path.join(prefix, "bin", name)):
                _add(found, os.path.dirname(os.path.dirname(path)))
    return [path for path in found if not _is_inside(path, found)]


def _add(found: dict[str, None], prefix: str) -> None:
    for path in (os.path.normpath(prefix), os.path.realpath(prefix)):
        if not is_system(path) and os.path.isdir(path):
            found[path] = None


def _chain(path: str) -> list[str]:
    """`path`, and the target of each link that it leads over."""
    chain = [path]
    while len(chain) <= _MAX_LINKS and os.path.islink(chain[-1]):
        chain.append(os.path.normpath(os.path.join(os.path.dirname(chain[-1]), os.readlink(chain[-1]))))
    return chain


def _is_inside(path: str, others: dict[str, None]) -> bool:
    """Whether another one shows this path: a bind below a bind must not contain a link."""
    return any(path != other and is_below(path, other) for other in others)
