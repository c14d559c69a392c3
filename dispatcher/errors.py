"""The errors that a user can cause and mend, each with a message that says how.

    DispatcherError
    ├── CatalogError         an AsyncAPI document is not fit to be the catalogue; names file and place
    ├── ConfigError          a key, variable or value of the configuration is wrong
    │   └── MainKeyMissing   what is sealed cannot be opened
    ├── DatabaseError        the database cannot be used as it is
    │   ├── DatabaseUnreachable
    │   ├── SchemaTooNew     made by a newer release
    │   └── SchemaOutdated   migrations are missing
    ├── InvalidInput         a value given by a user is refused; names the field
    │   └── Conflict         the value is fine, but the thing is in a state in which that cannot be done
    └── NotFound             no such tenant, webhook, event or delivery

Everything else that is raised is a fault of ours or of the machine, and is shown as one. What is expected to fail,
a subscriber's answer for one, is no exception but a value (`dispatcher.model.Outcome`).
"""

from collections.abc import Sequence
from dataclasses import dataclass


class DispatcherError(Exception):
    """A failure that the person at the keyboard can mend; `str()` is the paragraph to show them."""

    exit_code = 1


@dataclass(frozen=True, slots=True)
class CatalogFault:
    """One thing that is wrong with an AsyncAPI document."""

    file: str
    pointer: str
    """Where in it (RFC 6901); empty: the whole."""
    message: str

    def __str__(self) -> str:
        """File, place and what is wrong there, in one line."""
        return f"{self.file}#{self.pointer}: {self.message}" if self.pointer else f"{self.file}: {self.message}"


class CatalogError(DispatcherError):
    """AsyncAPI documents cannot be the catalogue; `faults` says why, place by place."""

    exit_code = 4
    shown = 10
    """Faults in the message: who has more mends these first."""

    def __init__(self, faults: Sequence[CatalogFault]) -> None:
        self.faults = tuple(faults)
        more = len(self.faults) - self.shown
        lines = [str(fault) for fault in self.faults[: self.shown]] + ([f"… and {more} more"] if more > 0 else [])
        super().__init__("\n".join(lines))


class ConfigError(DispatcherError):
    """The configuration cannot be used."""

    exit_code = 2


class MainKeyMissing(ConfigError):
    """What is sealed with the main key `key` (an id) cannot be opened: it is not configured, or is another than it was."""

    def __init__(self, message: str, *, key: str) -> None:
        super().__init__(message)
        self.key = key


class DatabaseError(DispatcherError):
    """The database cannot be used as it is."""

    exit_code = 3


class DatabaseUnreachable(DatabaseError):
    """No connection could be made."""


class SchemaTooNew(DatabaseError):
    """The schema was made by a newer release than this one."""


class SchemaOutdated(DatabaseError):
    """The schema lacks migrations that this release needs."""


class InvalidInput(DispatcherError):
    """A value is refused at the door.

    `field` is the name that the caller used for it, so that every front (command line, HTTP) can point to it.
    """

    exit_code = 4

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class Conflict(InvalidInput):
    """What is asked for cannot be done as things stand now, and could in another state."""


class NotFound(DispatcherError):
    """The thing that was named does not exist (or belongs to another tenant, which looks the same)."""

    exit_code = 5
