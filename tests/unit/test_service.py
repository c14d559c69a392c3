"""The one loop that waits: when it works, when it rests, what it does about outages and faults, how it ends."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from dispatcher.service import RESTART_LONGEST, STEADY, Availability, Children, Loop, Stop, outlast


class Outage(Exception):
    """The database is away."""


class Scripted:
    """A step that does as it is told, run by run, and then nothing."""

    name = "scripted"

    def __init__(self, *script: int | Exception, pause: float = 60.0) -> None:
        self.pause = pause
        self.runs = 0
        self.ran = asyncio.Condition()
        self._script = list(script)

    async def run_once(self) -> int:
        """Take the next thing of the script."""
        self.runs += 1
        async with self.ran:
            self.ran.notify_all()
        done = self._script.pop(0) if self._script else 0
        if isinstance(done, Exception):
            raise done
        return done

    async def until(self, runs: int) -> None:
        """Wait for that many runs."""
        async with asyncio.timeout(5), self.ran:
            await self.ran.wait_for(lambda: self.runs >= runs)


def looping(step: Scripted, said: list[bool] | None = None, *, probe: Scripted | None = None) -> Loop:
    """A loop over a step; `said` gathers what is heard of the database, `probe` plays it."""
    availability: Availability[object] = Availability(
        (said if said is not None else []).append, probe=(probe or Scripted()).run_once
    )
    return Loop(step, is_outage=lambda error: isinstance(error, Outage), availability=availability)


async def test_a_step_runs_on_while_it_finds_work_and_then_rests() -> None:
    """Three runs with work, one without, and then the pause."""
    step = Scripted(5, 1, 7)
    loop = looping(step)
    loop.start()

    await step.until(4)
    await loop.stop(within=1)

    assert step.runs == 4


async def test_a_wake_up_ends_the_pause() -> None:
    """What is told while it rests makes it run again at once."""
    step = Scripted()
    loop = looping(step)
    loop.start()
    await step.until(1)

    loop.wake()

    await step.until(2)
    await loop.stop(within=1)


async def test_a_wake_up_during_a_run_is_not_lost() -> None:
    """What is told while it works makes it run once more."""
    loops: list[Loop] = []

    class Waking(Scripted):
        async def run_once(self) -> int:
            """Be told while it works."""
            if self.runs == 0:
                loops[0].wake()
            return await super().run_once()

    step = Waking()
    loops.append(looping(step))
    loops[0].start()

    await step.until(2)
    await loops[0].stop(within=1)


async def test_an_outage_is_said_once_and_survived() -> None:
    """The database is asked until it answers; both are said once, and then the step is run again."""
    said: list[bool] = []
    step, probe = Scripted(Outage()), Scripted(Outage(), Outage())
    loop = looping(step, said, probe=probe)
    loop.start()

    await step.until(2)
    await loop.stop(within=1)

    assert (said, probe.runs) == ([False, True], 3)


async def test_a_fault_does_not_end_a_loop() -> None:
    """It is logged, and the step is run again."""
    step = Scripted(ValueError("ours"))
    loop = looping(step)
    loop.start()

    await step.until(2)
    await loop.stop(within=1)


async def test_stopping_lets_the_run_that_is_under_way_end() -> None:
    """A transaction is not cut in the middle; no other run begins."""
    go_on = asyncio.Event()

    class Slow(Scripted):
        finished = False

        async def run_once(self) -> int:
            """Take its time."""
            await super().run_once()
            await go_on.wait()
            self.finished = True
            return 1

    step = Slow()
    loop = looping(step)
    loop.start()
    await step.until(1)

    stopping = asyncio.create_task(loop.stop(within=5))
    go_on.set()
    await stopping

    assert (step.finished, step.runs) == (True, 1)


async def test_the_first_signal_drains_and_the_second_forces() -> None:
    """Work that the second signal cuts short is not finished."""
    stop = Stop()
    endless: Callable[[], Awaitable[object]] = asyncio.Event().wait

    async def work() -> None:
        await endless()

    stop.ask()
    asked, forced = stop.asked.is_set(), stop.forced.is_set()
    draining = asyncio.create_task(stop.unless_forced(work()))
    stop.ask()

    assert (asked, forced) == (True, False)
    assert await draining is False


async def test_work_that_ends_before_a_second_signal_is_finished() -> None:
    """The drain is over when it is over."""

    async def work() -> None:
        await asyncio.sleep(0)

    assert await Stop().unless_forced(work())


async def test_an_outage_is_outlasted() -> None:
    """What is tried is tried until the database is there, and what it returns is returned; both are said once."""
    said: list[bool] = []
    attempt = Scripted(Outage(), Outage(), 7)

    got = await outlast(attempt.run_once, Stop(), is_outage=is_outage, on_change=said.append)

    assert (got, attempt.runs, said) == (7, 3, [False, True])


async def test_what_is_no_outage_is_not_outlasted() -> None:
    """It is raised at once."""
    attempt = Scripted(ValueError("ours"))
    said: list[bool] = []

    with pytest.raises(ValueError, match="ours"):
        await outlast(attempt.run_once, Stop(), is_outage=is_outage, on_change=said.append)

    assert (attempt.runs, said) == (1, [])


async def test_whoever_outlasts_an_outage_can_be_told_to_stop() -> None:
    """Also while a try is under way that comes to no end."""
    stop = Stop()
    said: list[bool] = []
    begun = asyncio.Event()

    async def endless() -> bool:
        begun.set()
        return await asyncio.Event().wait()

    waiting = asyncio.create_task(outlast(endless, stop, is_outage=is_outage, on_change=said.append))
    await begun.wait()
    stop.ask()

    assert await asyncio.wait_for(waiting, 5) is None


def is_outage(error: BaseException) -> bool:
    """Whether the database is away."""
    return isinstance(error, Outage)


NOBODY = 1 << 30
"""A process id that no system gives."""


class Mortal:
    """A child that lives until it is told otherwise."""

    exitcode = None

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.alive = True

    def is_alive(self) -> bool:
        """Whether it runs."""
        return self.alive


class Nursery:
    """Starts children, and remembers at which second."""

    def __init__(self, count: int) -> None:
        self.seconds = 0
        self.started: list[int] = []
        self.died: list[int] = []
        self.born: list[Mortal] = []
        self.children = Children(self._start, count, on_death=self.died.append)
        self.children.start()

    def _start(self, _index: int) -> Mortal:
        self.started.append(self.seconds)
        self.born.append(Mortal(pid=NOBODY + len(self.born)))
        return self.born[-1]

    def live(self, seconds: int) -> None:
        """Let so many seconds pass."""
        for _ in range(seconds):
            self.seconds += 1
            self.children.look()


def test_a_worker_that_dies_again_and_again_is_started_ever_later() -> None:
    """A second, then twice as long each time, up to a bound; each death is told once."""
    nursery = Nursery(1)

    for _ in range(200):
        nursery.born[-1].alive = False
        nursery.live(1)

    pauses = [after - before - 1 for before, after in zip(nursery.started, nursery.started[1:], strict=False)]
    assert pauses[:8] == [1, 2, 4, 8, 16, 32, RESTART_LONGEST, RESTART_LONGEST]
    assert nursery.died == [child.pid for child in nursery.born]


def test_a_worker_that_ran_for_a_while_is_started_again_at_once() -> None:
    """What came long before is no reason to wait; the other ones live on."""
    nursery = Nursery(2)
    for _ in range(3):
        nursery.born[-1].alive = False
        nursery.live(10)
    nursery.live(STEADY)

    nursery.born[-1].alive = False
    nursery.live(1)
    dead = nursery.children.alive
    nursery.live(1)

    assert (dead, nursery.children.alive) == (1, 2)
    assert len(nursery.born) == 6


def test_nobody_is_started_again_in_the_end() -> None:
    """Who has ended because told to is not missed."""
    nursery = Nursery(1)

    nursery.children.signal()
    nursery.born[-1].alive = False
    nursery.live(5)

    assert (len(nursery.born), nursery.died) == (1, [])
