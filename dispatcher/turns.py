"""Whose turn it is: lanes in line to start, lanes to be read for, and lanes that only time can move.

A lane is filed by what it says of itself (`Lane.outlook`) and filed anew after each change; looking up who is next
never looks at the others.
"""

import heapq
from collections import OrderedDict
from itertools import count
from math import inf

from dispatcher.lane import Lane

HEAP_SLACK = 1000
"""Outdated entries that the heap of wake times may hold beside two per lane before it is rebuilt."""


class Turns:
    """The lines in which lanes wait.

    In line to start, a lane's place is given by how many of its requests are in flight, fewest first, and first come,
    first served among equals: a lane with 100,000 deliveries waiting gets its next slot only when no lane with fewer
    in flight wants it.
    """

    def __init__(self, lane_in_flight: int) -> None:
        self._line: list[OrderedDict[Lane, None]] = [OrderedDict() for _ in range(lane_in_flight)]
        self._levels = 0
        """Bit n is set when `_line[n]` has lanes in it."""
        self.starved: OrderedDict[Lane, None] = OrderedDict()
        """To be read for, holding nothing."""
        self.hungry: OrderedDict[Lane, None] = OrderedDict()
        """To be read for, holding less than they would like to."""
        self._heap: list[tuple[float, int, Lane]] = []
        self._outdated = 0
        self._serial = count()

    def first(self) -> Lane | None:
        """Return the lane that starts next, if any can."""
        levels = self._levels
        if not levels:
            return None
        return next(iter(self._line[(levels & -levels).bit_length() - 1]))

    def place(self, lane: Lane, now: float) -> None:
        """File a lane anew."""
        startable, reads, wake = lane.outlook(now)
        level = len(lane.flying) if startable else -1
        if level != lane.level:
            self._move(lane, level)
        queue = None if not reads else self.hungry if lane.held else self.starved
        if queue is not lane.queue:
            if lane.queue is not None:
                del lane.queue[lane]
            if queue is not None:
                queue[lane] = None
            lane.queue = queue
        # A wake time that has become later stays: it is looked at again when it comes.
        if wake < lane.wake:
            if lane.wake < inf:
                self._outdated += 1
            lane.wake = wake
            heapq.heappush(self._heap, (wake, next(self._serial), lane))

    def _move(self, lane: Lane, level: int) -> None:
        old = lane.level
        if old >= 0:
            line = self._line[old]
            del line[lane]
            if not line:
                self._levels &= ~(1 << old)
        if level >= 0:
            self._line[level][lane] = None
            self._levels |= 1 << level
        lane.level = level

    def remove(self, lane: Lane) -> None:
        """Take a closed lane out of all lines."""
        self._move(lane, -1)
        if lane.queue is not None:
            del lane.queue[lane]
            lane.queue = None
        if lane.wake < inf:
            self._outdated += 1
            lane.wake = inf

    def pass_time(self, now: float) -> None:
        """File those lanes anew whose instant has come."""
        if self._outdated > HEAP_SLACK + len(self._heap) // 2:
            self._heap = [entry for entry in self._heap if entry[2].wake == entry[0]]
            heapq.heapify(self._heap)
            self._outdated = 0
        heap = self._heap
        while heap and heap[0][0] <= now:
            wake, _, lane = heapq.heappop(heap)
            if lane.wake == wake:
                lane.wake = inf
                self.place(lane, now)
            else:
                self._outdated -= 1

    def next_wake(self) -> float | None:
        """Return the first instant that a lane waits for."""
        heap = self._heap
        while heap and heap[0][2].wake != heap[0][0]:
            heapq.heappop(heap)
            self._outdated -= 1
        return heap[0][0] if heap else None
