"""One line of the table: a figure, what it is compared with, and whether it keeps its budget."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from measure import Distribution


@dataclass(frozen=True)
class Budget:
    """`sense` and `limit` apply to the row's `ratio` or to its measured `value`."""

    of: Literal["ratio", "value"]
    sense: Literal["<=", ">="]
    limit: float

    def met(self, measured: float) -> bool:
        return measured <= self.limit if self.sense == "<=" else measured >= self.limit


@dataclass(frozen=True)
class Row:
    name: str
    figure: str
    unit: str  # of value, baseline and samples: "s" is shown as ns, µs or ms
    value: float
    budget: Budget
    samples: Distribution
    samples_unit: str = ""  # where the samples are of another kind than the value: latencies beside a rate
    baseline: float | None = None
    against: str = ""
    note: str = ""

    @property
    def ratio(self) -> float | None:
        return None if self.baseline is None else self.value / self.baseline

    @property
    def met(self) -> bool:
        if self.budget.of == "value":
            return self.budget.met(self.value)
        return self.ratio is not None and self.budget.met(self.ratio)

    @property
    def verdict(self) -> str:
        return "met" if self.met else "missed"

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "ratio": self.ratio, "verdict": self.verdict}


@dataclass(frozen=True)
class Failure:
    """A measurement that raised an exception; `names` are the rows that it should have returned."""

    names: tuple[str, ...]
    error: str


@dataclass(frozen=True)
class Effort:
    """How many samples, as a share of a full run."""

    quick: bool

    def samples(self, full: int, quick: int) -> int:
        return quick if self.quick else full


@dataclass(frozen=True)
class Bench:
    """`measure` yields one row for each of `names`: they come from the same samples."""

    names: tuple[str, ...]
    measure: Callable[[Effort], list[Row]]
