"""Does it work here? Tries to create one sandbox, and says what is in the way if it cannot."""

from __future__ import annotations

import errno
import os
import platform
from dataclasses import dataclass, field
from pathlib import Path

from pysandpool._config import SandboxConfig
from pysandpool._errors import SandboxCreateError, SandpoolError
from pysandpool._hints import SYSCTLS, in_container, read_sysctl
from pysandpool._sandbox import Sandbox

_COMMAND = ("/bin/true",)


def _security_modules() -> str:
    try:
        return Path("/sys/kernel/security/lsm").read_text(encoding="ascii").strip()
    except OSError:
        return ""


@dataclass(frozen=True)
class Diagnosis:
    """What was found; on a failure, where (`stage`), what (`errno`, `error`) and what would fix it (`hint`)."""

    works: bool
    error: str = ""
    stage: str | None = None
    errno: int | None = None
    hint: str = ""
    kernel: str = field(default_factory=platform.release)
    machine: str = field(default_factory=platform.machine)
    python: str = field(default_factory=platform.python_version)
    uid: int = field(default_factory=os.geteuid)
    container: bool = field(default_factory=in_container)
    sysctls: dict[str, str | None] = field(default_factory=lambda: {name: read_sysctl(name) for name in SYSCTLS})
    security_modules: str = field(default_factory=_security_modules)

    def lines(self) -> list[str]:
        """The same for people."""
        found = [
            f"kernel            {self.kernel} {self.machine}",
            f"python            {self.python}, uid {self.uid}{', in a container' if self.container else ''}",
            f"security modules  {self.security_modules or 'unknown'}",
        ]
        found += [f"{name} = {'not there' if value is None else value}" for name, value in self.sysctls.items()]
        if self.works:
            return [*found, "a sandbox was created and ran /bin/true: works"]
        found.append(f"does not work: {self.error}")
        if self.stage is not None:
            name = "unknown" if self.errno is None else errno.errorcode.get(self.errno, str(self.errno))
            found.append(f"stage {self.stage}, errno {name}")
        return [*found, f"hint: {self.hint}"] if self.hint else found


def diagnose() -> Diagnosis:
    """Creates a sandbox with the default configuration and runs /bin/true in it."""
    try:
        with Sandbox(SandboxConfig()) as sandbox:
            sandbox.execute(_COMMAND).check()
    except SandboxCreateError as error:
        return Diagnosis(False, str(error), error.stage, error.errno, error.hint)
    except SandpoolError as error:
        return Diagnosis(False, str(error))
    return Diagnosis(True)
