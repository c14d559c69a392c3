"""Run steps until told to stop: wait, wake, survive outages. Knows nothing of webhooks.

A step has `run_once()`, which works and returns how much it did, and `pause`, how long to wait when it did nothing. The one
loop here does the waiting, for all of them; nothing else in the service sleeps.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, Generic, Protocol, TypeVar

import structlog

OUTAGE_FIRST, OUTAGE_LONGEST = 0.1, 2.0
"""Seconds between tries while the database is away, doubling: quick for a restart, quiet for a long outage."""

CANCEL_SECONDS: Final = 1.0
"""For a cancelled run to end: one that waits for a database that does not answer may take minutes to give up."""

FAULT_PAUSE: Final = 1.0
"""Seconds after a fault of ours, so that a step that always fails does not fill the log."""

RESTART_LONGEST: Final = 32
"""Seconds between the death of a worker process that dies again and again, and its next start."""

STEADY: Final = 60
"""Seconds that a worker process runs before its next death counts as a first one."""

Answer = TypeVar("Answer")

logger = structlog.get_logger()


class Step(Protocol):
    """A piece of work that is done again and again."""

    @property
    def name(self) -> str:
        """What it is called in logs."""
        ...

    @property
    def pause(self) -> float:
        """Seconds to wait after a run that did nothing, unless something wakes it."""
        ...

    async def run_once(self) -> int:
        """Work once; returns how much was done, 0 to wait."""
        ...


class Availability(Generic[Answer]):
    """Whether the database is there, said once when it goes and once when it returns."""

    def __init__(self, on_change: Callable[[bool], None], *, probe: Callable[[], Awaitable[Answer]]) -> None:
        """`probe` asks the database anything, and raises what that raises."""
        self._on_change = on_change
        self._probe = probe
        self.up = True

    def away(self, error: BaseException) -> None:
        """Take note of an outage."""
        if self.up:
            self.up = False
            logger.warning("database.lost", error=str(error) or type(error).__name__)
            self._on_change(False)

    async def ask(self) -> Answer:
        """See whether it is back, and take note if so; returns its answer, and raises what the database raises.

        A step that ends well proves nothing: it may have had nothing to ask the database.
        """
        answer = await self._probe()
        if not self.up:
            self.up = True
            logger.info("database.returned")
            self._on_change(True)
        return answer


class Loop:
    """Runs one step until it is stopped."""

    def __init__(
        self,
        step: Step,
        *,
        is_outage: Callable[[BaseException], bool],
        availability: Availability[object],
        linger: float = 0.0,
    ) -> None:
        """`linger`: seconds between being woken and working, to let a batch gather."""
        self.step = step
        self._is_outage = is_outage
        self._availability = availability
        self._linger = linger
        self._woken = asyncio.Event()
        self._stopping = False
        self._task: asyncio.Task[None] | None = None

    def wake(self) -> None:
        """Work now instead of after the pause."""
        self._woken.set()

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.create_task(self._run(), name=self.step.name)

    async def stop(self, *, within: float) -> None:
        """Let the run that is under way end, for up to `within` seconds, and begin no other."""
        self._stopping = True
        self._woken.set()
        if self._task is not None and not await finish(self._task, within=within):
            logger.warning("step.cancelled", step=self.step.name)

    async def _run(self) -> None:
        outage = OUTAGE_FIRST
        lost = False
        while not self._stopping:
            self._woken.clear()
            try:
                if lost:
                    await self._availability.ask()
                    lost = False
                done = await self.step.run_once()
            except Exception as error:
                if self._is_outage(error):
                    lost = True
                    self._availability.away(error)
                    await self._wait(outage, wakeable=False)
                    outage = min(outage * 2, OUTAGE_LONGEST)
                else:
                    logger.exception("step.failed", step=self.step.name)
                    await self._wait(FAULT_PAUSE, wakeable=False)
                continue
            outage = OUTAGE_FIRST
            if not done:
                await self._wait(self.step.pause, wakeable=True)
            else:
                await asyncio.sleep(0)

    async def _wait(self, seconds: float, *, wakeable: bool) -> None:
        if not wakeable:
            # a wake-up must not turn an outage into a busy loop; only the end of the service cuts this short
            waited = 0.0
            while waited < seconds and not self._stopping:
                await asyncio.sleep(min(0.1, seconds - waited))
                waited += 0.1
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        if self._linger and self._woken.is_set() and not self._stopping:
            await asyncio.sleep(self._linger)


class Stop:
    """Told by signals: the first asks to drain, the second to stop at once."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.forced = asyncio.Event()

    def ask(self) -> None:
        """Ask to drain; again: to stop at once."""
        if self.asked.is_set():
            logger.warning("service.forced")
            self.forced.set()
        else:
            logger.info("service.draining")
            self.asked.set()

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """Listen to SIGTERM and SIGINT."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.ask)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)

    async def unless_forced(self, work: Awaitable[None]) -> bool:
        """Do `work`, but not beyond the second signal; returns whether it was finished."""
        task = asyncio.ensure_future(work)
        forced = asyncio.create_task(self.forced.wait())
        await asyncio.wait([task, forced], return_when=asyncio.FIRST_COMPLETED)
        forced.cancel()
        if task.done():
            task.result()
            return True
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return False


async def outlast(
    attempt: Callable[[], Awaitable[Answer]],
    stop: Stop,
    *,
    is_outage: Callable[[BaseException], bool],
    on_change: Callable[[bool], None],
) -> Answer | None:
    """Try until the database is there, and return what `attempt` returns; None if told to stop before.

    `attempt` may be made often; what it raises is raised here, but for outages.
    """
    availability = Availability(on_change, probe=attempt)
    pause = OUTAGE_FIRST
    asked = asyncio.create_task(stop.asked.wait())
    try:
        while not stop.asked.is_set():
            trial = asyncio.ensure_future(availability.ask())
            await asyncio.wait([trial, asked], return_when=asyncio.FIRST_COMPLETED)
            if not trial.done():
                await finish(trial, within=0)
                break
            try:
                return trial.result()
            except Exception as error:
                if not is_outage(error):
                    raise
                availability.away(error)
            await asyncio.wait([asked], timeout=pause)
            pause = min(pause * 2, OUTAGE_LONGEST)
    finally:
        asked.cancel()
    return None


class Children:
    """Worker processes: started, watched, started again when they die, and told to end.

    Who dies is started again a second later, who dies again soon after that when twice as long has passed, and so on: a
    crash at start is no storm.
    """

    def __init__(self, start: Callable[[int], "Child"], count: int, *, on_death: Callable[[int], None]) -> None:
        """`on_death` is called with the process id of a child that died unasked."""
        self._start = start
        self._on_death = on_death
        self._children: list[Child] = []
        self._count = count
        self._ending = False
        self._lived = [0] * count
        """Seconds since the start of each."""
        self._pauses = [1] * count
        """Seconds from each one's next death to its next start."""
        self._due = [0] * count
        """Seconds until each dead one is started again; 0: it runs, as far as is known."""

    def start(self) -> None:
        """Start them all."""
        self._children = [self._start(index) for index in range(self._count)]

    @property
    def alive(self) -> int:
        """How many run."""
        return sum(child.is_alive() for child in self._children)

    async def watch(self) -> None:
        """Start again whoever dies, until it is told to end."""
        while not self._ending:
            await asyncio.sleep(1.0)
            self.look()

    def look(self) -> None:
        """See who died, and start again whose time has come; to be called every second."""
        for index, child in enumerate(self._children):
            if self._ending:
                return
            if child.is_alive():
                self._lived[index] += 1
                if self._lived[index] >= STEADY:
                    self._pauses[index] = 1
            elif self._due[index]:
                self._due[index] -= 1
                if not self._due[index]:
                    self._lived[index] = 0
                    self._children[index] = self._start(index)
            else:
                self._mourn(index, child)

    def _mourn(self, index: int, child: "Child") -> None:
        pause = self._due[index] = self._pauses[index]
        self._pauses[index] = min(pause * 2, RESTART_LONGEST)
        logger.error("worker.died", worker=index, pid=child.pid, exit_code=child.exitcode, restart_in=pause)
        if child.pid is not None:
            self._on_death(child.pid)

    def signal(self) -> None:
        """Tell all to drain; again: to stop at once."""
        self._ending = True
        for child in self._children:
            if child.is_alive() and child.pid is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child.pid, signal.SIGTERM)

    async def gone(self) -> None:
        """Wait until none runs."""
        while self.alive:  # noqa: ASYNC110 - processes end outside of this loop, without an event
            await asyncio.sleep(0.05)

    def kill(self) -> None:
        """End whoever still runs."""
        for child in self._children:
            if child.is_alive() and child.pid is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child.pid, signal.SIGKILL)


class Child(Protocol):
    """What is needed of `multiprocessing.Process`."""

    @property
    def pid(self) -> int | None:
        """Its process id."""
        ...

    @property
    def exitcode(self) -> int | None:
        """How it ended; None while it runs."""
        ...

    def is_alive(self) -> bool:
        """Whether it runs."""
        ...


async def finish(work: Awaitable[object], *, within: float) -> bool:
    """Let `work` end, for up to `within` seconds, then cancel it; returns whether it ended by itself.

    Raises what it raises. Unlike `asyncio.timeout`, does not wait for what comes to no end even when it is cancelled.
    """
    task = asyncio.ensure_future(work)
    ended, late = await asyncio.wait([task], timeout=within)
    for one in ended:
        one.result()
    for one in late:
        one.add_done_callback(_look_away)
        one.cancel()
        await asyncio.wait([one], timeout=CANCEL_SECONDS)
    return not late


def _look_away(task: "asyncio.Future[object]") -> None:
    """Let nobody complain that a cancelled task's failure was not looked at."""
    if not task.cancelled():
        task.exception()


async def stop_all(loops: Sequence[Loop], *, within: float) -> None:
    """Stop several loops at once."""
    await asyncio.gather(*(loop.stop(within=within) for loop in loops))
