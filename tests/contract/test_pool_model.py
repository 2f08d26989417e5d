"""The pool over the fake launcher against a plain model of its contract, driven by hypothesis.

Each step is one call, or a few that overlap in a known order; then the janitor is left to finish, and the pool's
counts, and the sandboxes that are there, must be the model's. A failing run prints its steps, which can be pasted.
SANDPOOL_MODEL_EXAMPLES lengthens it; in CI the same examples come every time.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass, field

import pytest
from fake import FakeLauncher
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.errors import HypothesisException
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from pools import assert_balanced
from waiting import Call, wait_until

from pysandpool import (
    AcquireTimeoutError,
    PooledSandbox,
    PoolStateError,
    PoolStats,
    SandboxCreateError,
    SandboxLostError,
    SandboxPool,
    SandboxReleasedError,
)

pytestmark = pytest.mark.slow  # not in `make quick`

EXAMPLES = int(os.environ.get("SANDPOOL_MODEL_EXAMPLES", "100"))
STAGE = "clone"


@dataclass
class Leased:
    pid: int
    used: bool = False
    dead: bool = False  # and nobody has noticed by a command yet
    lost: bool = False


@dataclass
class Model:
    """Section 5 of the design, as one thread of control would have it. `idle` is ordered, the newest last."""

    max_size: int
    min_size: int
    max_in_use: int | None
    health_interval: int
    expires: bool
    idle: list[int] = field(default_factory=list)
    leases: dict[int, Leased] = field(default_factory=dict)  # by a number of the test's
    born: int = 0
    failing: int = 0  # creations that are yet to fail
    healthy: bool = True
    attempts: int = 0
    hits: int = 0
    misses: int = 0
    evicted: int = 0
    created: int = 0
    recycled: int = 0
    errors: int = 0
    checks: int = 0
    lost: int = 0

    def birth(self) -> int | None:
        """The pid of a new sandbox, or None when its creation fails."""
        if self.failing:
            self.failing -= 1
            self.errors += 1
            return None
        self.born += 1
        return self.born

    def take_newest(self) -> int:
        return self.idle.pop()

    def evict(self) -> None:
        self.idle.pop(0)
        self.evicted += 1

    def acquire(self) -> Leased | None:
        """None when the creation fails."""
        if self.idle:
            self.hits += 1
            return Leased(self.take_newest())
        self.misses += 1
        pid = self.birth()
        if pid is None:
            return None
        self.created += 1
        return Leased(pid)

    def give_back(self, pid: int) -> None:
        """An unused one: it is the newest, and the oldest goes when that is one too many."""
        self.idle.append(pid)
        if len(self.idle) > self.max_size:
            self.evict()

    def begin_recycling(self) -> bool:
        """Whether a released, used one has a place for a fresh one."""
        if len(self.idle) < self.max_size:
            return True
        if self.idle:
            self.evict()
            return True
        self.evicted += 1
        return False

    def end_recycling(self) -> int | None:
        """The fresh one's pid; None when it failed."""
        self.attempts += 1
        checked = self.health_interval != 0 and self.attempts % self.health_interval == 0
        pid = self.birth()
        if pid is not None:
            self.checks += checked
        if pid is None or (checked and not self.healthy):
            self.evicted += 1
            return None
        self.recycled += 1
        return pid

    def release(self, lease: Leased) -> None:
        if not lease.used:
            self.give_back(lease.pid)
        elif self.begin_recycling():
            pid = self.end_recycling()
            if pid is not None:
                self.idle.append(pid)

    def warm(self, target: int) -> tuple[int, bool]:
        """How many were inserted, and whether one failed. All are asked for before the first one's answer."""
        wanted = max(0, min(target, self.max_size) - len(self.idle))
        pids = [self.birth() for _ in range(wanted)]
        made = [pid for pid in pids if pid is not None]
        self.idle += made
        self.created += len(made)
        return len(made), len(made) < wanted

    def resize(self, max_size: int) -> None:
        self.max_size = max_size
        while len(self.idle) > max_size:
            self.evict()

    def drain(self) -> bool:
        self.evicted += len(self.idle)
        self.idle.clear()
        return not self.leases

    def settle(self) -> None:
        """What the janitor does when it is left alone."""
        if self.expires:
            self.evicted += len(self.idle)
            self.idle.clear()
        while len(self.idle) < self.min_size:
            pid = self.birth()
            if pid is not None:
                self.idle.append(pid)
                self.created += 1

    def fits(self, s: PoolStats, live: int) -> bool:
        ours = (self.hits, self.misses, self.evicted, self.created, self.recycled, self.errors, self.checks, self.lost)
        theirs = (
            *(s.hit_count, s.miss_count, s.evict_count, s.created_count, s.recycle_count),
            *(s.create_error_count, s.health_check_count, s.lost_count),
        )
        alive = len(self.idle) + sum(not lease.dead and not lease.lost for lease in self.leases.values())
        now = (s.idle_count, s.in_use_count, s.recycling_count, s.starting_count, s.waiting_count)
        return ours == theirs and now == (len(self.idle), len(self.leases), 0, 0, 0) and alive == live


class PoolMachine(RuleBasedStateMachine):
    habits = st.just((0, False))  # min_size, and whether idle entries expire at once
    steps = 40
    patience = 10.0  # seconds for the janitor

    def __init__(self) -> None:
        super().__init__()
        self.launcher = FakeLauncher()
        self.leases: dict[int, PooledSandbox] = {}
        self.pool: SandboxPool | None = None
        self.numbers = 0
        self.used: set[int] = set()

    @initialize(
        max_size=st.integers(1, 4),
        max_in_use=st.sampled_from([None, None, None, 2, 3]),
        health_interval=st.sampled_from([0, 0, 0, 1, 2]),
        data=st.data(),
    )
    def open(self, max_size: int, max_in_use: int | None, health_interval: int, data: st.DataObject) -> None:
        min_size, expires = data.draw(self.habits)
        self.model = Model(max_size, min_size, max_in_use, health_interval, expires)
        self.pool = self.launcher.open(
            max_size=max_size,
            min_size=min_size,
            max_in_use=max_in_use,
            health_check_interval=health_interval or None,
            max_idle_duration=0.001 if expires else None,
        )
        self.settle()

    # --- what a step ends with ---------------------------------------------------------------------------

    def settle(self) -> None:
        """Waits for the model's state."""
        assert self.pool is not None
        self.model.settle()
        last = self.pool.stats()

        def fits() -> bool:
            nonlocal last
            assert self.pool is not None
            last = self.pool.stats()
            return self.model.fits(last, self.launcher.live)

        try:
            wait_until(fits, "the model's state", self.patience)
        except AssertionError:
            raise AssertionError(f"the model has {self.model}, the pool {last}") from None

    def number(self, lease: PooledSandbox, expected: Leased) -> None:
        self.numbers += 1
        self.model.leases[self.numbers] = expected
        self.leases[self.numbers] = lease
        assert lease.pid == expected.pid
        assert lease.pid not in self.used, "a used sandbox was handed out"

    def pick(self, data: st.DataObject, **wanted: bool) -> int:
        found = [n for n, lease in self.model.leases.items() if all(getattr(lease, k) == v for k, v in wanted.items())]
        return data.draw(st.sampled_from(found))

    def can_lease(self) -> bool:
        return self.model.max_in_use is None or len(self.model.leases) < self.model.max_in_use

    # --- the steps ---------------------------------------------------------------------------------------

    @precondition(lambda self: self.can_lease())
    @rule()
    def acquire(self) -> None:
        expected = self.model.acquire()
        if expected is None:
            with pytest.raises(SandboxCreateError) as caught:
                self.pool.acquire()
            assert (caught.value.stage, caught.value.errno) == (STAGE, errno.EAGAIN)
        else:
            self.number(self.pool.acquire(), expected)
        self.settle()

    @precondition(lambda self: not self.can_lease())
    @rule(timeout=st.sampled_from([0, 0.001]))
    def acquire_in_vain(self, timeout: float) -> None:
        with pytest.raises(AcquireTimeoutError):
            self.pool.acquire(timeout=timeout)
        self.settle()

    @precondition(lambda self: any(not lease.lost and not lease.dead for lease in self.model.leases.values()))
    @rule(data=st.data())
    def execute(self, data: st.DataObject) -> None:
        n = self.pick(data, lost=False, dead=False)
        assert self.leases[n].execute(["/bin/true"]).exit_code in {0, 1}
        self.model.leases[n].used = True
        self.used.add(self.model.leases[n].pid)
        self.settle()

    @precondition(lambda self: any(lease.lost for lease in self.model.leases.values()))
    @rule(data=st.data())
    def execute_on_a_lost_one(self, data: st.DataObject) -> None:
        with pytest.raises(SandboxLostError):
            self.leases[self.pick(data, lost=True)].execute(["/bin/true"])
        self.settle()

    @precondition(lambda self: any(lease.dead for lease in self.model.leases.values()))
    @rule(data=st.data())
    def execute_on_a_dead_one(self, data: st.DataObject) -> None:
        """Unused: another sandbox serves, unless none can be made. Used: the outcome is unknown."""
        n = self.pick(data, dead=True)
        lease = self.model.leases[n]
        lease.dead = False
        if lease.used:
            lease.lost = True
            self.model.lost += 1
            with pytest.raises(SandboxLostError):
                self.leases[n].execute(["/bin/true"])
        else:
            lease.used = True
            pid = self.model.birth()
            lease.lost = pid is None
            if pid is None:
                with pytest.raises(SandboxCreateError):
                    self.leases[n].execute(["/bin/true"])
            else:
                self.leases[n].execute(["/bin/true"])
                lease.pid = pid
                self.model.created += 1
                self.model.evicted += 1
        self.used.add(lease.pid)
        self.settle()

    # One that died unused is left to a command: its release is a race, which would make the model's state one, too.
    @precondition(lambda self: any(lease.used or not lease.dead for lease in self.model.leases.values()))
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        found = [n for n, lease in self.model.leases.items() if lease.used or not lease.dead]
        n = data.draw(st.sampled_from(found))
        lease, handle = self.model.leases.pop(n), self.leases.pop(n)
        handle.release()
        handle.release()
        with pytest.raises(SandboxReleasedError):
            handle.execute(["/bin/true"])
        self.model.release(lease)
        self.settle()

    @precondition(lambda self: self.hands_over() and not self.can_lease())
    @rule(data=st.data())
    def release_to_a_waiter(self, data: st.DataObject) -> None:
        waiter = Call(self.pool.acquire, 30)
        wait_until(lambda: self.pool.stats().waiting_count == 1, "a waiter")
        self.hand_over(self.pick(data, dead=False), waiter)

    @precondition(lambda self: self.hands_over())
    @rule(data=st.data())
    def release_and_acquire(self, data: st.DataObject) -> None:
        """Nothing can be made before the acquire has chosen what to take."""
        with self.launcher.held():
            self.hand_over(self.pick(data, dead=False), None)

    def hands_over(self) -> bool:
        quiet = self.model.min_size == 0 and not self.model.expires  # the janitor makes nothing of its own accord
        return quiet and any(not lease.dead for lease in self.model.leases.values())

    def hand_over(self, n: int, waiter: Call | None) -> None:
        """Releases n. Who waits takes the newest idle one, or takes over what comes of n, or makes one."""
        model, lease = self.model, self.model.leases.pop(n)
        self.leases.pop(n).release()
        recycles = lease.used and model.begin_recycling()
        if not lease.used:
            model.give_back(lease.pid)
        call = waiter or Call(self.pool.acquire)
        wait_until(lambda: self.pool.stats().in_use_count == len(model.leases) + 1, "a decision")
        self.launcher.let_go()
        if model.idle or not recycles:
            taken = model.acquire()
            pid = model.end_recycling() if recycles else None
            model.idle += [pid] if pid is not None else []
        else:
            model.hits += 1
            pid = model.end_recycling()
            if pid is None:
                pid = model.birth()
                model.created += pid is not None
            taken = Leased(pid) if pid is not None else None
        if taken is None:
            with pytest.raises(SandboxCreateError):
                call.result()
        else:
            self.number(call.result(), taken)
        self.settle()

    @rule(count=st.integers(0, 6))
    def warm(self, count: int) -> None:
        made, failed = self.model.warm(count)
        if failed:
            with pytest.raises(SandboxCreateError):
                self.pool.warm(count)
        else:
            assert self.pool.warm(count) == made
        self.settle()

    @rule(max_size=st.integers(1, 4))
    def resize(self, max_size: int) -> None:
        self.model.resize(max_size)
        self.pool.resize(self.model.min_size, max_size)
        self.settle()

    @rule()
    def drain(self) -> None:
        assert self.pool.drain(timeout=0) == self.model.drain()
        self.settle()

    @precondition(lambda self: self.model.idle)
    @rule(data=st.data())
    def kill_idle(self, data: st.DataObject) -> None:
        pid = data.draw(st.sampled_from(self.model.idle))
        assert self.launcher.kill(pid)
        self.model.idle.remove(pid)
        self.model.evicted += 1
        self.settle()

    @precondition(lambda self: any(not lease.dead and not lease.lost for lease in self.model.leases.values()))
    @rule(data=st.data())
    def kill_leased(self, data: st.DataObject) -> None:
        n = self.pick(data, dead=False, lost=False)
        assert self.launcher.kill(self.model.leases[n].pid)
        self.model.leases[n].dead = True
        self.settle()

    @precondition(lambda self: self.model.min_size == 0)  # else the janitor tries again, and nobody knows how often
    @rule(count=st.integers(0, 2))
    def fail(self, count: int) -> None:
        self.launcher.fail(count, stage=STAGE, err=errno.EAGAIN)
        self.model.failing = count

    @rule(healthy=st.booleans())
    def health(self, healthy: bool) -> None:
        # An unhealthy one is not replaced for ever.
        self.model.healthy = healthy
        self.launcher.health(0 if healthy else 1)

    # --- what always holds -------------------------------------------------------------------------------

    @invariant()
    def adds_up(self) -> None:
        if self.pool is not None:
            stats = self.pool.stats()
            assert_balanced(stats)
            assert stats.evictions.total == stats.evict_count
            assert stats.idle_count == self.pool.idle_len() <= self.model.max_size

    def teardown(self) -> None:
        if self.pool is not None:
            self.pool.close()
            for call in (self.pool.acquire, self.pool.stats, self.pool.idle_len, lambda: self.pool.warm(1)):
                with pytest.raises(PoolStateError):
                    call()
            for lease in self.leases.values():
                with pytest.raises(PoolStateError):
                    lease.execute(["/bin/true"])
                lease.release()
            assert self.launcher.live == 0
            assert self.launcher.created == self.model.born
        self.launcher.close()


class BusyJanitor(PoolMachine):
    """The janitor refills, or expires, after each step; it may take a quarter of a second to see that it has to."""

    habits = st.sampled_from([(1, False), (0, True)])
    steps = 20


def play(machine: type[PoolMachine], examples: int, *, shrink: bool = True) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=machine.steps,
            phases=[Phase.generate, *([Phase.shrink] if shrink else [])],
            deadline=None,
            database=None,
            derandomize=os.environ.get("CI") == "true",
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.parametrize(
    ("machine", "share"), [(PoolMachine, 1.0), pytest.param(BusyJanitor, 0.03, marks=pytest.mark.slow)]
)
def test_the_pool_does_as_the_model(machine: type[PoolMachine], share: float) -> None:
    play(machine, round(EXAMPLES * share))


def hands_out_the_oldest(self: Model) -> int:
    return self.idle.pop(0)


def keeps_what_was_used(self: Model) -> bool:
    return bool(self.idle)


def evicts_the_newest(self: Model) -> None:
    self.idle.pop()
    self.evicted += 1


@pytest.mark.parametrize(
    ("method", "wrong"),
    [("take_newest", hands_out_the_oldest), ("begin_recycling", keeps_what_was_used), ("evict", evicts_the_newest)],
)
def test_a_wrong_model_is_found_out(method: str, wrong: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the right one says something."""
    monkeypatch.setattr(Model, method, wrong)
    monkeypatch.setattr(PoolMachine, "patience", 0.3)
    # Hypothesis calls it flaky when the second try of those steps ends elsewhere.
    with pytest.raises((AssertionError, HypothesisException)):
        play(PoolMachine, 150, shrink=False)
