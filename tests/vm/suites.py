"""What is run in each machine, in parts. Each part is a boot of its own: a run can be resumed after any of them."""

from __future__ import annotations

# What another kernel and cgroup v2 decide about. All the rest is the same on every kernel.
SUITES = {
    "kernel": ("tests/vm/native.py", "tests/isolation/test_fallbacks.py", "tests/isolation/test_isolation.py"),
    "cgroups": ("tests/vm/limits.py", "tests/vm/cgroups.py", "tests/vm/killed.py", "tests/isolation/test_limits.py"),
    "contract": (
        "tests/contract",
        "--ignore=tests/contract/test_pool_model.py",  # of the fake launcher alone
        # Each root's sandbox has a cgroup here, whose directory is opened first.
        "--deselect=tests/contract/test_contract_close.py::test_limit_of_open_files_is_named",
        # The fake launcher asks nothing of a kernel. Those of the agent and the Landlock tier, and a load of hundreds
        # of leases, take too long.
        *("-k", "not fake and not agent and not landlock and not balance_under_load"),
    ),
    "workspaces": (
        *("tests/isolation/test_workspaces.py", "tests/isolation/test_binds.py"),
        # /root is open there, where this Python may be; and an attempt takes longer than a path stays the same.
        *("-k", "not test_a_directory_of_root and not replaced_all_the_time"),
    ),
    "execute": ("tests/execute/test_execute.py", "tests/execute/test_popen.py", "tests/execute/test_file_calls.py"),
    "code": (
        "tests/execute/test_run_code.py",
        "tests/execute/test_sessions.py",
        "tests/execute/test_branches.py",
        "tests/isolation/test_stem.py",
        "tests/isolation/test_keeper.py",
    ),
    # Without those with calls that a filter refuses: an old kernel refuses them itself.
    "attack": ("tests/isolation/test_attack.py", "-k", "not where_calls_are_refused"),
    # Without those that compile C, for which there is no compiler, or measure milliseconds, which an emulator has not.
    "memory": ("tests/isolation/test_memory.py", "-k", "not parent_and_child and not soon_gone and not never_above"),
}
"""The arguments of pytest for each part."""
