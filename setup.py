"""Builds the two cffi modules, and the static program that contains the zygote and init.

The metadata of the project is in pyproject.toml. This file has only what needs a compiler.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from setuptools import Command, setup
from setuptools.command.build import build
from setuptools.command.build_ext import build_ext

sys.path.insert(0, os.fspath(Path(__file__).parent))

from build_ffi import FREE_THREADED, agent_sources, headers, sources

LINUX = sys.platform.startswith("linux")
MACOS = sys.platform == "darwin"
PROGRAM = Path("pysandpool", "_bin", "sandpool-agent" if MACOS else "sandpool-zygote")
# What an interpreter inside loads to become a zygote: the same sources, as an extension module of the stable ABI. A
# free-threaded Python has no headers for that ABI, so a build by one has none.
STEM = PROGRAM.with_name("sandpool-stem.abi3.so")
HAS_STEM = LINUX and not FREE_THREADED
PROGRAM_FLAGS = ("-std=c11", "-O2", "-D_GNU_SOURCE", "-Icsrc", "-Wall", "-Wextra", "-fvisibility=hidden", "-fno-plt")
MACOS_FLAGS = ("-std=c11", "-O2", "-Icsrc", "-Wall", "-Wextra", "-fvisibility=hidden")
# What a wheel's extension modules leave out: debug information, the symbol table and, with them, the build directory.
STRIP_COMPILE_FLAGS = ("-g0",)
STRIP_LINK_FLAGS = ("-Wl,-S", "-Wl,-x") if MACOS else ("-Wl,-s",)
LINK_FLAGS = ("-s", "-Wl,-z,relro,-z,now,-z,noexecstack")
# Flags for static linking, best first: not every libc supports both.
STATIC_MODES = (("-static", "-fno-pie"), ("-static-pie", "-fPIE"))

# The headers have this from 4.14 on; csrc/common/kernel_linux.h has what is newer.
KERNEL_PROBE = """
#include <linux/seccomp.h>
int main(void) { return SECCOMP_RET_KILL_PROCESS == 0; }
"""

# The packages of a missing part, for each package manager.
INSTALL = {
    "compiler": {"apt-get": "gcc libc6-dev", "dnf": "gcc glibc-devel", "apk": "gcc musl-dev"},
    # Of this version: several may be installed, as Ubuntu's deadsnakes does.
    "Python.h": {"apt-get": f"python3.{sys.version_info[1]}-dev", "dnf": "python3-devel", "apk": "python3-dev"},
    "libc.a": {"apt-get": "libc6-dev", "dnf": "glibc-static", "apk": "musl-dev"},
    "kernel headers": {"apt-get": "linux-libc-dev", "dnf": "kernel-headers", "apk": "linux-headers"},
}
VERB = {"apt-get": "install", "dnf": "install", "apk": "add"}


def compiler() -> list[str]:
    """The C compiler that setuptools uses: $CC, or else the one that built this Python."""
    return shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")


def program_compiler() -> list[str]:
    """That of the static program: $SANDPOOL_PROGRAM_CC, where the other one cannot link statically (zig for glibc)."""
    return shlex.split(os.environ.get("SANDPOOL_PROGRAM_CC", "")) or compiler()


def environment_flags(name: str) -> list[str]:
    return shlex.split(os.environ.get(name, ""))


def install_command(part: str) -> str:
    """The command that installs `part`; on an unknown system, that of each package manager."""
    known = [f"{manager} {VERB[manager]} {packages}" for manager, packages in INSTALL[part].items()]
    here = [command for command in known if shutil.which(command.split()[0])]
    return " | ".join(here or known)


def missing(part: str, what: str) -> SystemExit:
    return SystemExit(f"pysandpool cannot be built, missing: {what}.\nInstall it with: {install_command(part)}")


def program_sources() -> list[str]:
    return agent_sources() if MACOS else sources("zygote", "init", "common")


def stem_sources() -> list[str]:
    return [path for path in sources("stem", "zygote", "init", "common") if path != "csrc/zygote/main.c"]


def stem_flags() -> list[str]:
    include = sysconfig.get_paths()["include"]
    return ["-fPIC", "-shared", "-DPy_LIMITED_API=0x03090000", f"-I{include}"]


class Toolchain:
    """Tries what this machine can compile and link."""

    def __init__(self, cc: list[str]) -> None:
        self.cc = cc

    def tries(self, program: str, *flags: str) -> bool:
        with tempfile.TemporaryDirectory(prefix="sandpool-try-") as folder:
            source = Path(folder, "try.c")
            source.write_text(program, encoding="utf-8")
            command = [*self.cc, *flags, os.fspath(source), "-o", os.fspath(source.with_suffix(".out"))]
            return subprocess.run(command, capture_output=True, check=False).returncode == 0

    def static_mode(self) -> tuple[str, ...]:
        program = '#include <stdio.h>\nint main(void) { return puts("") < 0; }\n'
        for mode in STATIC_MODES:
            if self.tries(program, *mode):
                return mode
        raise missing("libc.a", "a static C library (libc.a) to link the zygote with")

    def check(self) -> None:
        """Raises SystemExit with a message that names the first missing part."""
        if shutil.which(self.cc[0]) is None:
            raise missing("compiler", f"a C compiler ({self.cc[0]!r} is not there; $CC names another)")
        if not self.tries("#include <stdint.h>\n#include <pthread.h>\nint main(void) { return 0; }\n"):
            raise missing("compiler", f"the C library's headers for {shlex.join(self.cc)}")
        include = sysconfig.get_paths()["include"]
        if not self.tries("#include <Python.h>\nint main(void) { return 0; }\n", f"-I{include}"):
            version = f"{sys.version_info[0]}.{sys.version_info[1]}"
            raise missing("Python.h", f"the headers of Python {version} (Python.h)")
        if LINUX:
            if not self.tries(KERNEL_PROBE):
                raise missing("kernel headers", "the kernel's headers (linux/seccomp.h), 4.14 or newer")
            Toolchain(program_compiler()).static_mode()


class CheckToolchain(Command):
    """Reports a missing compiler, header or library before anything is built."""

    description = "check that everything a build needs is installed"
    user_options: ClassVar[list[tuple[str, str | None, str]]] = []

    def initialize_options(self) -> None:
        pass

    def finalize_options(self) -> None:
        pass

    def run(self) -> None:
        Toolchain(compiler()).check()


class BuildZygote(Command):
    """A sub-command of `build`: compiles zygote and init into one static program beside the package."""

    description = "build the static zygote program"
    user_options: ClassVar[list[tuple[str, str | None, str]]] = [
        ("build-lib=", None, "directory that takes the package"),
        ("inplace", "i", "build into the source tree"),
    ]
    boolean_options: ClassVar[list[str]] = ["inplace"]

    def initialize_options(self) -> None:
        self.build_lib: str | None = None
        self.inplace = False
        self.editable_mode = False

    def finalize_options(self) -> None:
        self.set_undefined_options("build", ("build_lib", "build_lib"))

    def target(self, path: Path) -> Path:
        if self.inplace or self.editable_mode:
            return path
        assert self.build_lib is not None
        return Path(self.build_lib) / path

    def run(self) -> None:
        if not (LINUX or MACOS):
            self.announce(f"no program is built: {sys.platform} is not supported", level=4)
            return
        Toolchain(compiler()).check()
        # There is no static libSystem: on macOS the program is linked as all others are.
        program = Toolchain(program_compiler())
        self.compile(program, PROGRAM, program_sources(), [] if MACOS else program.static_mode())
        if HAS_STEM:
            self.compile(Toolchain(compiler()), STEM, stem_sources(), stem_flags())

    def compile(self, toolchain: Toolchain, path: Path, files: Sequence[str], flags: Sequence[str]) -> None:
        target = self.target(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        # Linked under another name and renamed: a running zygote keeps its file.
        fresh = target.with_name(f"{target.name}.{os.getpid()}.new")
        strict = ["-Werror"] if os.environ.get("SANDPOOL_WERROR") == "1" else []
        command = [
            *toolchain.cc,
            *environment_flags("CPPFLAGS"),
            *environment_flags("CFLAGS"),
            *(MACOS_FLAGS if MACOS else PROGRAM_FLAGS),
            *strict,
            *flags,
            *files,
            *environment_flags("LDFLAGS"),
            *(() if MACOS else LINK_FLAGS),
            "-o",
            os.fspath(fresh),
        ]
        self.announce(shlex.join(command), level=2)
        try:
            if subprocess.run(command, check=False).returncode != 0:
                raise SystemExit(f"pysandpool cannot be built: {path.name} does not compile (see above)")
            fresh.chmod(0o755)
            fresh.replace(target)
        finally:
            fresh.unlink(missing_ok=True)

    def get_source_files(self) -> list[str]:
        return [*program_sources(), *(stem_sources() if HAS_STEM else []), *headers()]

    def get_outputs(self) -> list[str]:
        paths = [*([PROGRAM] if LINUX or MACOS else []), *([STEM] if HAS_STEM else [])]
        return [os.fspath(self.target(path)) for path in paths]

    def get_output_mapping(self) -> dict[str, str]:
        return {}


class BuildExt(build_ext):
    def run(self) -> None:
        Toolchain(compiler()).check()
        super().run()

    def build_extensions(self) -> None:
        # A build in the source tree is for development: it keeps what a debugger and a profiler need.
        if not (self.inplace or self.editable_mode):
            for extension in self.extensions:
                extension.extra_compile_args.extend(STRIP_COMPILE_FLAGS)
                extension.extra_link_args.extend(STRIP_LINK_FLAGS)
        super().build_extensions()


class Build(build):
    sub_commands: ClassVar = [*build.sub_commands, ("build_zygote", None)]


setup(
    cffi_modules=["build_ffi.py:core", "build_ffi.py:core_hot"],
    cmdclass={
        "build": Build,
        "build_ext": BuildExt,
        "build_zygote": BuildZygote,
        "check_toolchain": CheckToolchain,
    },
    options={} if FREE_THREADED else {"bdist_wheel": {"py_limited_api": "cp39"}},
)
