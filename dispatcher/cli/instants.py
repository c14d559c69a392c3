"""Read instants as people write them on a command line."""

from datetime import UTC, datetime

from dispatcher.errors import InvalidInput

FORM = "as 2026-01-31T12:00:00Z, +10m from now, or -2h before now"


def instant(text: str | None, option: str) -> datetime | None:
    """Read an instant of ISO 8601 with its offset, or `+DURATION` from now, or `-DURATION` before now."""
    from dispatcher.clock import Clock
    from dispatcher.retry import parse_duration

    if text is None:
        return None
    if text.startswith(("+", "-")):
        seconds = parse_duration(text[1:], field=option)
        return datetime.fromtimestamp(Clock().now() + (seconds if text[0] == "+" else -seconds), UTC)
    try:
        read = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidInput(f"`{text}` is no time for {option}. Write it {FORM}.", field=option) from None
    if read.tzinfo is None:
        raise InvalidInput(
            f"`{text}` for {option} does not say in which time zone. Put Z behind it for UTC, or an offset like +02:00.",
            field=option,
        )
    return read
