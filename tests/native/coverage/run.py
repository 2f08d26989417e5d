"""Which C code no test runs: `python tests/native/coverage/run.py`. Fails when some of it is not in allowed.txt.

A copy of the tree in build/coverage is compiled for gcov: the extension, the zygote, the module of a stem and the
programs of tests/native/c. What is measured are these programs and the Python tests named below, which go through
zygote, init and stem. Each test that has ended is a line, with the seconds so far.

`--resume` goes on with what has not passed since the last build; names of test files, without suffix, choose some of
them. `--again` only judges what was measured last.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import verdict

ROOT = Path(__file__).resolve().parents[3]
HERE = Path("tests", "native", "coverage")
TREE = ROOT / "build" / "coverage"
ZYGOTE = TREE / "pysandpool" / "_bin" / "sandpool-zygote"
STEM = ZYGOTE.with_name("sandpool-stem.abi3.so")
COUNTERS = TREE / "counters"
COUNTERS_OF_STEM = TREE / "counters-of-stem"
COUNTERS_SIZE = 1 << 20

COPIED = (
    *("csrc", "pysandpool", "tests", "tools", "bench", "examples"),
    *("setup.py", "build_ffi.py", "pytest_pysandpool.py", "pyproject.toml", "README.md", "LICENSE"),
)
NOT_COPIED = shutil.ignore_patterns("*.so", "_bin", "__pycache__")
TESTS = (
    "test_refused_calls",  # it takes longest
    *(
        "test_agent",
        "test_agent_proof",
        "test_agent_scratch",
        "test_cgroup",
        "test_contract_close",
        "test_contract_death",
        "test_contract_health",
    ),
    *(
        "test_contract_limits",
        "test_contract_seeing",
        "test_descriptors",
        "test_environments",
        "test_execute",
        "test_cpu_time",
    ),
    *("test_ids", "test_reaper", "test_stuck", "test_log", "test_interrupts", "test_undead"),
    *("test_files", "test_files_root", "test_files_setid", "test_filters_of_tenants", "test_budgets"),
    *("test_hosts", "test_isolation", "test_memory", "test_network"),
    *("test_bare_stem", "test_renew", "test_stem", "test_stem_image", "test_keeper", "test_branches"),
    *("test_landlock_tier_stem", "test_landlock_tier_code"),
    *("test_popen", "test_file_calls", "test_file_races", "test_live", "test_workspaces", "test_neighbours"),
    *("test_async_execute", "test_async_cancel", "test_async_process", "test_async_pool", "test_async_files"),
    *("test_binds", "test_paths_live", "test_paths_replaced", "test_fs_python", "test_contract_drain"),
    *("test_contract_resize", "test_silence", "test_leftovers"),
    *("test_exec_runtime", "test_landlock_tier", "test_landlock_tier_files", "test_fallbacks", "test_terminal"),
    *("test_proof", "test_refused_otherwise", "test_rootfs", "test_sockets", "test_zygote_death"),
)
# These compare stderr, where libgcov says that it has no descriptor left, or may not open its counters; and two have to
# be done in a time that is too short for code without optimisation.
LEFT_OUT = " and ".join(
    f"not {name}"
    for name in (
        *("template_cannot_be_built", "without_free_fds", "root_of_one_id", "descriptors_under_way"),
        *("as_many_as_the_configuration_allows", "a_file_that_grows_and_a_directory_that_fills"),
        "(all_others_at_once and user)",
    )
)
# -O0: a line of the source is a place in the program.
GCOV = ("--coverage", "-fprofile-update=atomic", "-O0", "-g")
# Of libgcov's own there is one that writes all counters before it calls the real one, where a sandbox has no files.
PLAIN_EXEC = ("-fno-builtin-execve",)


def run(command: Sequence[str | Path], **environment: str) -> int:
    print("+", *command, flush=True)
    return subprocess.run(command, cwd=TREE, env={**os.environ, **environment}, check=False).returncode


def must(command: Sequence[str | Path], **environment: str) -> None:
    if run(command, **environment) != 0:
        raise SystemExit(f"failed: {' '.join(map(str, command))}")


def copy_tree() -> None:
    shutil.rmtree(TREE, ignore_errors=True)
    TREE.mkdir(parents=True)
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, TREE / name, ignore=NOT_COPIED)
        else:
            shutil.copy2(source, TREE / name)


def build_extension() -> None:
    """Both modules compile the same files to the same objects; the seed gives their counters the same stamp."""
    flags = " ".join((*GCOV, "-frandom-seed=sandpool"))
    options = TREE / "build_ffi.py"  # its -O2 would come after these
    options.write_text(options.read_text("utf-8").replace('"-O2"', '"-O0"'), "utf-8")
    must([sys.executable, "setup.py", "-q", "build_ext", "--inplace"], CC="gcc", CFLAGS=flags, LDFLAGS="--coverage")


def share_counters_of_extension() -> None:
    """Tests that become an unprivileged user count, too: the files of counters are there before, and open to all."""
    must([sys.executable, "-c", "import pysandpool"], PYTHONPATH=os.fspath(TREE))
    for counters in (TREE / "build").rglob("*.gcda"):
        counters.chmod(0o666)


def counters_object(folder: Path, name: str, *more: str) -> Path:
    """The part of a program that keeps its counters in a file, which the C expression `name` names."""
    target = folder / "counters.o"
    must(["gcc", "-O0", "-D_GNU_SOURCE", f"-DCOUNTERS={name}", *more, "-c", HERE / "counters.c", "-o", target])
    return target


def make_counters(file: Path) -> Path:
    file.write_bytes(bytes(COUNTERS_SIZE))
    file.chmod(0o666)  # processes of unprivileged users count, too
    return file


def compile_each(folder: Path, sources: Iterable[str], *flags: str) -> list[Path]:
    """One object per source, so that each has its file of counters."""
    folder.mkdir()
    objects = {source: folder / source.replace("/", "-").replace(".c", ".o") for source in sources}

    def compile_one(source: str) -> None:
        must(["gcc", "-std=c11", "-D_GNU_SOURCE", "-Icsrc", *GCOV, *flags, "-c", source, "-o", objects[source]])

    with ThreadPoolExecutor(os.cpu_count()) as threads:
        list(threads.map(compile_one, objects))
    return list(objects.values())


def build_zygote() -> None:
    """With counters that all of its processes share."""
    from build_ffi import sources

    folder = TREE / "zygote"
    ZYGOTE.parent.mkdir()
    objects = compile_each(folder, sources("zygote", "init", "common"), *PLAIN_EXEC, "-fdata-sections")
    shared = counters_object(folder, f'"{COUNTERS}"', f'-DCOUNTERS_OF_STEM="{COUNTERS_OF_STEM}"')
    link = (f"-Wl,-T,{HERE / 'counters.ld'}", "-Wl,--wrap=sp_close_from")
    must(["gcc", "-static", "--coverage", *objects, shared, *link, "-o", ZYGOTE])
    make_counters(COUNTERS)
    make_counters(COUNTERS_OF_STEM)


def build_stem() -> None:
    """The module of an interpreter. Its counters are behind a descriptor that the zygote hands down to it."""
    from build_ffi import sources

    folder = TREE / "stem"
    include = sysconfig.get_paths()["include"]
    flags = ["-DPy_LIMITED_API=0x03090000", f"-I{include}", "-fvisibility=hidden", "-fPIC", "-fdata-sections"]
    files = [name for name in sources("stem", "zygote", "init", "common") if name != "csrc/zygote/main.c"]
    objects = compile_each(folder, files, *PLAIN_EXEC, *flags)
    shared = folder / "counters.o"
    must(["gcc", "-O0", "-fPIC", "-fvisibility=hidden", "-D_GNU_SOURCE", "-c", HERE / "counters_stem.c", "-o", shared])
    link = (f"-Wl,-T,{HERE / 'counters_stem.ld'}", "-Wl,--wrap=sp_stem_shared_memory")
    must(["gcc", "-shared", "--coverage", *objects, shared, *link, "-o", STEM])


def collect() -> None:
    """Has the counters of zygotes and stems written to gcov's files."""
    must([ZYGOTE, "collect"])
    load = f"import ctypes; ctypes.CDLL({os.fspath(STEM)!r})"
    must([sys.executable, "-c", load], SANDPOOL_COUNTERS=os.fspath(COUNTERS_OF_STEM))


class Parts:
    """The test files that have passed with this build, by the content that they had. They are kept for `--resume`."""

    def __init__(self) -> None:
        self.file = TREE / "passed"
        self.passed = set(self.file.read_text("utf-8").splitlines()) if self.file.exists() else set()

    def line(self, test: Path) -> str:
        return f"{test.stem} {hashlib.sha256(test.read_bytes()).hexdigest()}"

    def left(self, tests: Iterable[Path]) -> list[Path]:
        return [test for test in tests if self.line(test) not in self.passed]

    def add(self, tests: Iterable[Path]) -> None:
        """Their processes have ended, and so have written their counters."""
        self.passed.update(map(self.line, tests))
        self.file.write_text("".join(f"{line}\n" for line in sorted(self.passed)), "utf-8")


def run_each(parts: Parts, tests: list[Path], run_one: Callable[[Path], tuple[bool, str]], workers: int) -> None:
    """Several at a time. Says how far it has come, and what one that failed has said."""
    began = time.monotonic()
    with ThreadPoolExecutor(workers) as threads:
        running = {threads.submit(run_one, test): test for test in tests}
        for number, done in enumerate(as_completed(running), 1):
            test = running[done]
            passed, said = done.result()
            print(f"[{number}/{len(tests)}, {time.monotonic() - began:.0f} s] {test.stem}: ", end="")
            print("passed" if passed else f"failed\n{said}", flush=True)
            if passed:
                parts.add([test])


def output_of(command: Sequence[str | Path], **environment: str) -> tuple[bool, str]:
    done = subprocess.run(
        command,
        cwd=TREE,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="backslashreplace",
        check=False,
    )
    return done.returncode == 0, done.stdout


def run_c_programs(parts: Parts, tests: list[Path]) -> None:
    import c_build

    build = c_build.Build("gcc", "coverage")
    if (reason := c_build.unusable(build)) is not None:
        raise SystemExit(reason)
    folder = TREE / "programs"
    folder.mkdir(exist_ok=True)
    shared = counters_object(folder, 'getenv("SANDPOOL_COUNTERS")')
    more = (os.fspath(shared), f"-Wl,-T,{TREE / HERE / 'counters.ld'}")

    def run_one(source: Path) -> tuple[bool, str]:
        program = c_build.linked(source, build, folder, *more)
        counters = {"SANDPOOL_COUNTERS": os.fspath(make_counters(program.with_suffix(".counters")))}
        passed, said = output_of([program], **counters)
        must([program, "collect"], **counters)
        return passed, said

    c_build.zygote()  # not by two threads at once
    run_each(parts, tests, run_one, os.cpu_count() or 1)


def run_python_tests(parts: Parts, tests: list[Path]) -> None:
    """A process for each file: workers of pytest-xdist end without writing the counters of the extension."""
    # libgcov writes there, and not to stderr, that an unprivileged user may not write the counters of the extension.
    errors = TREE / "libgcov-errors"
    errors.touch()
    errors.chmod(0o666)
    workers = int(os.environ.get("WORKERS", "0")) or 2 * (os.cpu_count() or 1)

    with tempfile.TemporaryDirectory(prefix="sandpool-tests-") as locks:
        environment = {
            "PYTHONPATH": os.fspath(TREE),
            "GCOV_ERROR_FILE": os.fspath(errors),
            "SANDPOOL_REFUSED_CALLS": "all",
            "SANDPOOL_TESTS_SHARED_LOCKS": locks,
        }

        def run_one(test: Path) -> tuple[bool, str]:
            command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", LEFT_OUT, os.fspath(test)]
            return output_of(command, **environment)

        run_each(parts, tests, run_one, workers)


def build() -> None:
    copy_tree()
    build_extension()
    build_zygote()
    build_stem()
    share_counters_of_extension()


def take_over_changes() -> None:
    """Tests and Python code may have changed since; the counters belong to the C code that was built."""
    if subprocess.run(["diff", "-rq", ROOT / "csrc", TREE / "csrc"], check=False).returncode != 0:
        raise SystemExit("the C code has changed: only a run without --resume measures it")
    for name in ("pysandpool", "tests"):
        shutil.copytree(ROOT / name, TREE / name, ignore=NOT_COPIED, dirs_exist_ok=True)


def measure(names: list[str]) -> bool:
    """Runs the named parts, or what has not passed yet. Whether all parts have passed by now."""
    parts = Parts()
    programs = sorted((TREE / "tests" / "native" / "c").glob("test_*.c"))
    tests = [next((TREE / "tests").rglob(f"{name}.py")) for name in TESTS]
    wanted = [part for part in (*programs, *tests) if part.stem in names] if names else parts.left([*programs, *tests])
    run_c_programs(parts, [part for part in wanted if part.suffix == ".c"])
    run_python_tests(parts, [part for part in wanted if part.suffix == ".py"])
    collect()
    left = parts.left([*programs, *tests])
    print("not passed:", *([part.stem for part in left] or ["none"]))
    return not left


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("parts", nargs="*")
    arguments = parser.parse_args()
    sys.path[:0] = [os.fspath(TREE), os.fspath(TREE / "tests" / "support")]
    if arguments.resume:
        take_over_changes()
    elif not arguments.again:
        build()
    passed = arguments.again or measure(arguments.parts)
    must([*verdict.GCOVR, "--json", "coverage.json", "--txt", "coverage.txt"])
    print((TREE / "coverage.txt").read_text("utf-8"))
    covered = verdict.judge(TREE)
    if not passed:
        print("not every test has passed: see above")
    sys.exit(not (passed and covered))


if __name__ == "__main__":
    main()
