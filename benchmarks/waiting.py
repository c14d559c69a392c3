"""How long events waited, from commit to arrival, and how that is told: percentiles, in milliseconds."""

from collections.abc import Iterable, Mapping, Sequence
from math import ceil
from statistics import median

from benchmarks.result import Figures
from benchmarks.stage import Arrival, Note


def waits(arrivals: Iterable[Arrival], notes: Mapping[bytes, Note]) -> list[float]:
    """List the milliseconds from just before each event's commit until its request was read; at most a commit too long."""
    return [1e3 * (arrival.at - notes[arrival.key.rpartition(b" ")[2]].committing) for arrival in arrivals]


def commit_time(notes: Mapping[bytes, Note]) -> float:
    """Take the median of the milliseconds that the producer's commits took: they are a part of each wait."""
    return 1e3 * median(note.committed - note.committing for note in notes.values())


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Take the smallest that at least so many percent do not exceed."""
    return ordered[max(0, ceil(len(ordered) * percent / 100) - 1)]


def tell(milliseconds: Iterable[float]) -> Figures:
    """Sum them up."""
    ordered = sorted(milliseconds)
    return {
        "p50": percentile(ordered, 50),
        "p95": percentile(ordered, 95),
        "p99": percentile(ordered, 99),
        "max": ordered[-1],
    }
