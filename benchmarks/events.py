"""What the benchmarks' events look like, so that all who make, send or expect them agree."""

from typing import Final

EVENT_TYPE: Final = "benchmark.created"

_AROUND: Final = len(f'{{"type":"{EVENT_TYPE}","timestamp":"2025-01-01T00:00:00.000000Z","data":}}')
"""Bytes that the standard payload format writes around a payload."""

_HEAD: Final = '{"resource_id":"'
_MIDDLE: Final = '","changed_fields":["status","start_time"],"note":"'


def tenant(endpoint: int) -> str:
    """Name the tenant of an endpoint: each has its own, so that they spread over the shards."""
    return f"tenant-{endpoint}"


def path(endpoint: int) -> str:
    """Name the path of an endpoint's URL."""
    return f"/hooks/{endpoint}"


def payload(number: int, size: int) -> str:
    """Write the payload of an event whose body shall have `size` bytes (or the fewest possible), ASCII."""
    head = f"{_HEAD}{number}{_MIDDLE}"
    filling = max(0, size - _AROUND - len(head) - 2)
    return f'{head}{"x" * filling}"}}'


def payload_around(size: int) -> tuple[str, str]:
    """Write what stands before and after the number in payloads whose bodies shall have `size` bytes or a few more."""
    filling = max(0, size - _AROUND - len(_HEAD) - 1 - len(_MIDDLE) - 2)
    return _HEAD, f'{_MIDDLE}{"x" * filling}"}}'


def body(number: int, size: int) -> bytes:
    """Write the whole body, as the standard payload format does."""
    head = f'{{"type":"{EVENT_TYPE}","timestamp":"2025-01-01T00:00:00.000000Z","data":'
    return f"{head}{payload(number, size)}}}".encode()
