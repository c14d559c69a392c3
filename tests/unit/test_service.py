"""The one loop that waits: when it works, when it rests, what it does about outages and faults, how it ends."""

import asyncio
from collections.abc import Awaitable, Callable

from dispatcher.service import Availability, Loop, Stop


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
    availability = Availability((said if said is not None else []).append, probe=(probe or Scripted()).run_once)
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
