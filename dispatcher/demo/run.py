"""Runs the demo, and ends it in order whatever happens: told to stop, or with nobody watching any more."""

import asyncio
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from dispatcher.app import run_loop
from dispatcher.clock import Clock
from dispatcher.demo import judge
from dispatcher.demo.screen import Screen
from dispatcher.demo.stage import open_stage
from dispatcher.demo.story import Story
from dispatcher.service import Stop

INTERRUPTED = 130
"""What shells report of a program that Ctrl-C ended."""


def run(*, once: bool) -> int:
    """Run the demo; returns the exit code. Raises the errors of `DispatcherError` when it cannot begin.

    With `once` it ends by itself: 0 if every delivery ended as it should, else 1. Without, it ends when told to.
    """
    return run_loop(lambda: _run(once=once))


async def _run(*, once: bool) -> int:
    screen, stop = Screen(sys.stdout), Stop()
    screen.on_gone = stop.asked.set
    with _on_signals(stop):
        playing = asyncio.create_task(_play(screen, once=once))
        asked = asyncio.create_task(stop.asked.wait())
        await asyncio.wait([playing, asked], return_when=asyncio.FIRST_COMPLETED)
        asked.cancel()
        if playing.done():
            return playing.result()
        # the stage is taken away while the task unwinds; further signals only ask for what is being done
        playing.cancel()
        await asyncio.wait([playing])
        if not playing.cancelled() and (error := playing.exception()) is not None:
            raise error
        screen.gap()
        screen.title("Ended; everything is removed.")
        return INTERRUPTED if once else 0


@contextmanager
def _on_signals(stop: Stop) -> Iterator[None]:
    """Listen to SIGTERM and SIGINT, and to the terminal's window being closed."""
    loop = asyncio.get_running_loop()
    with stop.on_signals():
        loop.add_signal_handler(signal.SIGHUP, stop.asked.set)
        try:
            yield
        finally:
            loop.remove_signal_handler(signal.SIGHUP)


async def _play(screen: Screen, *, once: bool) -> int:
    clock = Clock()
    started = clock.monotonic()
    screen.title("dispatcher demo: from an insert in Postgres to a signed POST, or to a mail that says why not")
    async with open_stage() as stage:
        story = Story(stage, screen)
        await story.tell(seconds=clock.monotonic() - started)
        facts = await story.facts()
        wrong = judge.problems(facts)
        if once:
            story.summarise(facts)
        for problem in wrong:
            screen.bad(problem)
        if not once:
            story.mend()
            await story.invite()
            await asyncio.Event().wait()  # until it is cancelled
    if not wrong:
        screen.good("Every delivery ended as it should.")
        screen.say("`dispatcher demo` without --once runs on, for you to look around and to insert events of your own.")
    return 1 if wrong else 0
