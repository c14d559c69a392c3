"""The errors that a user can cause and mend, each with a message that says how.

    DispatcherError
    ├── ConfigError          a key, variable or value of the configuration is wrong
    ├── DatabaseError        the database cannot be used as it is
    │   ├── DatabaseUnreachable
    │   ├── SchemaTooNew     made by a newer release
    │   └── SchemaOutdated   migrations are missing
    ├── InvalidInput         a value given by a user is refused; names the field
    └── NotFound             no such tenant, webhook, event or delivery

Everything else that is raised is a fault of ours or of the machine, and is shown as one. What is expected to fail,
a subscriber's answer for one, is no exception but a value (`dispatcher.model.Outcome`).
"""


class DispatcherError(Exception):
    """A failure that the person at the keyboard can mend; `str()` is the paragraph to show them."""

    exit_code = 1


class ConfigError(DispatcherError):
    """The configuration cannot be used."""

    exit_code = 2


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


class NotFound(DispatcherError):
    """The thing that was named does not exist (or belongs to another tenant, which looks the same)."""

    exit_code = 5
