"""How every benchmark goes: progress on stderr, an account of the machine before and after, one result."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from benchmarks import measure
from benchmarks.plot import Chart
from benchmarks.result import Case, Checked, Result, Wish


class Play:
    """A benchmark that is under way."""

    def __init__(self, benchmark: str, options: Any, tell: Callable[..., None]) -> None:
        self._benchmark = benchmark
        self._options = options
        self._tell = tell
        self._at = datetime.now(UTC)
        self._load = measure.load()
        self.checked = Checked()
        self.postgres = ""

    def say(self, what: str) -> None:
        """Show what is being done."""
        self._tell(description=what)

    def step(self) -> None:
        """Show that a part of the whole is done."""
        self._tell(advance=1)

    def result(
        self,
        title: str,
        cases: Sequence[Case],
        *,
        wishes: Sequence[Wish] = (),
        remarks: Sequence[str] = (),
        charts: Sequence[Chart] = (),
    ) -> Result:
        """Put together what was found."""
        return Result(
            benchmark=self._benchmark,
            title=title,
            at=self._at,
            load=(self._load, measure.load()),
            options=self._options,
            machine=measure.machine(),
            postgres=self.postgres,
            checked=self.checked,
            cases=tuple(cases),
            wishes=tuple(wishes),
            remarks=tuple(remarks),
            charts=tuple(charts),
        )


@asynccontextmanager
async def play(benchmark: str, options: Any, *, steps: int) -> AsyncIterator[Play]:
    """Show progress on stderr for as long as this is open, in `steps` parts."""
    bar = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
    )
    with bar:
        task = bar.add_task("setting the stage", total=steps)
        yield Play(benchmark, options, lambda **changes: bar.update(task, **changes))
