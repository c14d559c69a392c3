"""What a benchmark found: figures of its cases, run by run, what was checked, and whether what was wished for holds."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from statistics import median
from typing import Any

from benchmarks.plot import Chart

Figures = Mapping[str, float | None]
"""Figures of one run by name; what they mean is said in `report`. Null: could not be measured here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What was looked at, delivery by delivery, where it arrived."""

    delivered: int = 0
    lost: int = 0
    duplicates: int = 0
    verified: int = 0
    """Requests whose signature was checked, and is good."""

    def __add__(self, other: "Checked") -> "Checked":
        return Checked(
            delivered=self.delivered + other.delivered,
            lost=self.lost + other.lost,
            duplicates=self.duplicates + other.duplicates,
            verified=self.verified + other.verified,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One of the things that are compared, such as a rate or a number of workers."""

    name: str
    runs: tuple[Figures, ...]

    def median(self, figure: str) -> float | None:
        """Take the median of all runs; null if some run lacks it."""
        values = self.values(figure)
        return median(values) if values else None

    def values(self, figure: str) -> list[float]:
        """List a figure of all runs; empty if some run lacks it."""
        found = [run.get(figure) for run in self.runs]
        return [value for value in found if value is not None] if None not in found else []


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What the service is meant to keep to, and what was measured of it."""

    what: str
    figure: float
    holds: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """All that is shown and written."""

    benchmark: str
    title: str
    at: datetime
    """When it began."""
    load: tuple[float, float]
    """Processes that ran or wanted to in the minute before it began, and before it ended."""
    options: Any
    machine: Mapping[str, str | int | float]
    postgres: str
    checked: Checked
    cases: tuple[Case, ...]
    wishes: tuple[Wish, ...] = ()
    remarks: tuple[str, ...] = ()
    charts: tuple[Chart, ...] = field(default=())
    """What is plotted."""


def ratio(above: float | None, below: float | None) -> float | None:
    """Divide what may not have been measured."""
    return None if above is None or not below else above / below
