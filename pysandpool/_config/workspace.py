"""`Workspace`: a directory of the host for one lease."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Union

from pysandpool._config.paths import host_path, is_system
from pysandpool._errors import InvalidSandboxConfigError, InvalidSandboxConfigTypeError, refuse_sandbox_field

StrPath = Union[str, "os.PathLike[str]"]
MODES = ("rw", "ro", "cow")


@dataclass(frozen=True, init=False)
class Workspace:
    """A directory of the host that one lease has at /workspace, where its commands run by default.

    The directory must exist when the lease is acquired. What is mounted below it on the host is part of it, except with
    "cow". Two leases may have the same directory at the same time.

    Raises:
        InvalidSandboxConfigError: a field has a value outside its range.
    """

    path: str
    """The absolute path of a directory on the host. A symbolic link is followed when the lease is acquired."""
    mode: str
    """With "rw" commands can change the directory, with "ro" they can only read it. With "cow" (copy on write) they can
    change what they see, and the host's directory stays as it is: the changes are part of the scratch, count as
    `scratch_size_mb`, and end with the lease. Before Linux 6.6, `mkdir` of a removed name fails with EIO."""

    def __init__(self, path: StrPath, mode: str = "rw") -> None:
        object.__setattr__(self, "path", host_path(refuse_sandbox_field, "Workspace.path", path))
        allowed = '"rw", "ro" or "cow"'
        if not isinstance(mode, str):
            raise InvalidSandboxConfigTypeError("Workspace.mode", mode, allowed)
        if mode not in MODES:
            raise InvalidSandboxConfigError("Workspace.mode", mode, allowed)
        object.__setattr__(self, "mode", mode)
        if mode == "rw" and is_system(self.path):
            raise InvalidSandboxConfigError(
                "Workspace.path", self.path, 'with mode "rw" a path that is not of the system'
            )


def workspace_of(value: Any) -> Workspace:
    """A `Workspace`; a path stands for the mode "rw"."""
    return value if isinstance(value, Workspace) else Workspace(value)
