"""Where the attacks of one user take place: directories, the host's sockets and processes, and how a probe is run."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from bare_stem import run_here

from pysandpool import (
    NamespaceDegradation,
    PoolConfig,
    PooledSandbox,
    SandboxConfig,
    SandboxError,
    SandboxPool,
    SandboxResult,
    SeccompProfile,
    Workspace,
)

MARK = "sandpool-probe-mark"
# New namespaces and root in them: what a control needs that would otherwise need root, and could do harm.
_NEW_NAMESPACES = [
    "unshare",
    *("--user", "--map-root-user", "--pid", "--fork", "--kill-child", "--mount-proc", "--net", "--ipc", "--uts"),
]


def verdict_of(stdout: bytes, returncode: int) -> str:
    """The probe's own line; to be ended by seccomp is to be held; anything else is an error of the probe."""
    line = stdout.decode(errors="replace").strip().splitlines()[-1:]
    if line and line[0].startswith(("REACHED ", "HELD ")):
        return line[0]
    return "HELD by SIGSYS" if returncode == -signal.SIGSYS else f"ERROR exit {returncode}, output {stdout!r}"


def _returncode(result: SandboxResult) -> int:
    return -(result.signal or 0) if result.exit_code is None else result.exit_code


class RefusedError(Exception):
    """This tier cannot give what the attack needs."""


class Stage:
    """One user's directories below `base`, and everything of the host that an attack may look for."""

    def __init__(self, base: Path, runs: bool = False, tier: str = "full") -> None:
        """`runs`: there is an interpreter, which starts the probes. `tier`: "full" or "landlock"."""
        self.runs = runs
        self.tier = tier
        self.programs = base / "programs"
        self.gaining = base / "gaining"
        self.home = base / f"of-{os.geteuid()}"
        self.ro, self.rw, self.outside = (self.home / name for name in ("ro", "rw", "outside"))
        # In memory, as a sandbox's scratch: on a disk, many small files take their time.
        self.scratch = Path(tempfile.mkdtemp(prefix="sandpool-attack-", dir="/dev/shm"))
        self._pools: dict[str, SandboxPool] = {}
        self._sockets: list[socket.socket] = []
        self._make_directories()
        self.values = {
            "secret": str(self.outside / "secret"),
            "mark": MARK,
            "ro": str(self.ro),
            "rw": str(self.rw),
            "gaining": str(self.gaining),
            "abstract": f"@sandpool-probe-{os.getpid()}",
        }
        self._listen()
        # Both controls and zygotes are started with this open: who does not close it hands the host's root over.
        self.root_fd = os.open("/", os.O_RDONLY)
        os.set_inheritable(self.root_fd, True)

    def _make_directories(self) -> None:
        self.home.mkdir()
        for path in (self.ro, self.rw, self.outside):
            path.mkdir()
            path.chmod(0o777)  # what is held shall be held by the sandbox, not by the owner's bits
        for path in (self.outside / "secret", self.ro / "data"):
            path.write_text("of the host\n")
            path.chmod(0o666)
        (self.outside / "secret-link").symlink_to("somewhere on the host")
        if self.tier == "full":  # the Landlock tier refuses a writable directory with such a file
            (self.rw / "set-id").write_text("of the host\n")
            (self.rw / "set-id").chmod(0o4755)
        (self.rw / "data").write_text("of the host\n")
        (self.rw / "data").chmod(0o666)
        os.mkfifo(self.ro / "fifo")
        (self.ro / "fifo").chmod(0o666)

    def _listen(self) -> None:
        def listener(family: int, kind: int, address: Any, shared: bool = False) -> socket.socket:
            sock = socket.socket(family, kind)
            if shared:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sock.bind(address)
            if kind == socket.SOCK_STREAM:
                sock.listen(64)
            self._sockets.append(sock)
            return sock

        tcp = listener(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0))
        self.values["port"] = str(tcp.getsockname()[1])
        shared = listener(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0), shared=True)
        self.values["shared_port"] = str(shared.getsockname()[1])
        listener(socket.AF_UNIX, socket.SOCK_STREAM, "\0" + self.values["abstract"][1:])
        for name, kind in (("stream", socket.SOCK_STREAM), ("datagram", socket.SOCK_DGRAM)):
            listener(socket.AF_UNIX, kind, str(self.ro / name))
            (self.ro / name).chmod(0o777)

    def __enter__(self) -> Stage:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for pool in self._pools.values():
            pool.close()
        for sock in self._sockets:
            sock.close()
        os.close(self.root_fd)
        shutil.rmtree(self.home)
        shutil.rmtree(self.scratch)

    def config(self, **fields: Any) -> SandboxConfig:
        if "seccomp_profile" in fields:
            fields["seccomp_profile"] = SeccompProfile(fields["seccomp_profile"])
        paths: dict[str, Any] = {
            "fs_readonly": (self.programs, self.gaining, self.ro),
            # The Landlock tier refuses writable paths with an interpreter that is copied.
            "fs_readwrite": () if self.runs and self.tier == "landlock" else (self.rw,),
            "timeout_secs": 60,
        }
        return self.bare_config(**{**paths, **fields})

    def bare_config(self, **fields: Any) -> SandboxConfig:
        """One that shows only what `fields` say."""
        if self.tier == "landlock":
            fields["namespace_degradation"] = NamespaceDegradation.ALLOW_DEGRADATION
        return SandboxConfig(**fields)

    def pool(self, **fields: Any) -> SandboxPool:
        key = repr(sorted(fields.items()))
        if key not in self._pools:
            with self.refusals():
                self._pools[key] = SandboxPool(self.config(**fields), PoolConfig(min_size=1, max_size=2))
        return self._pools[key]

    @contextmanager
    def refusals(self) -> Iterator[None]:
        """What the Landlock tier cannot give, it refuses: nothing is left to be attacked."""
        try:
            yield
        except SandboxError as error:
            if error.stage == "tier":
                raise RefusedError(str(error).partition("; hint")[0]) from None
            raise

    def inside(self, sandbox: PooledSandbox) -> dict[str, str]:
        """What {target}, which is init, and {scratch} are in this sandbox."""
        if self.tier == "full":
            return {"target": "1", "scratch": "/tmp"}
        return {"target": str(sandbox.pid), "scratch": sandbox.execute(["pwd"]).check().stdout.decode().strip()}

    def bystander(self) -> subprocess.Popen[bytes]:
        """A process of the host, of the same user, with a secret in its environment and another in its hands."""
        with open(self.outside / "secret", "rb") as secret:
            command = [str(self.programs / "process"), "bystander"]
            return subprocess.Popen(command, stdin=secret, env={"SECRET": MARK}, cwd="/", start_new_session=True)

    def fill(self, args: tuple[str, ...], **values: str) -> list[str]:
        return [arg.format_map({**self.values, **values}) for arg in args]

    def run_control(self, kind: str, program: str, args: tuple[str, ...]) -> str:
        victim = self.bystander()
        try:
            filled = self.fill(
                args, target=str(victim.pid), host=str(victim.pid), scratch=str(self.scratch), settle="0"
            )
            command = [str(self.programs / program), *filled]
            result = subprocess.run(
                [*_NEW_NAMESPACES, *command] if kind == "ns" else command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=(self.root_fd,),
                start_new_session=True,
                check=False,
            )
            return verdict_of(result.stdout, result.returncode)
        finally:
            victim.kill()
            victim.wait()

    def run_inside(self, program: str, args: tuple[str, ...], workspace: str = "", **fields: Any) -> str:
        victim = self.bystander()
        attached = Workspace(self.rw, workspace) if workspace else None
        places = {"rw": "/workspace"} if workspace else {}
        fields = {**fields, "fs_readwrite": ()} if workspace else fields
        try:
            with self.refusals():
                lease = self.pool(**fields).acquire(workspace=attached)
            with lease as sandbox:
                filled = self.fill(args, **self.inside(sandbox), host=str(victim.pid), settle="5000", **places)
                command = [str(self.programs / program), *filled]
                code = f"import os, sys; sys.stdout.flush(); os.execv({command[0]!r}, {command!r})"
                result = run_here(sandbox, code)[0] if self.runs else sandbox.execute(command)
                if result.oom_killed:
                    return "HELD by the memory limit"
                if result.signal == signal.SIGKILL and sandbox.isolation.processes == "partial":
                    return "HELD by the count of processes"
                return verdict_of(result.stdout + result.stderr, _returncode(result))
        finally:
            victim.kill()
            victim.wait()
