"""Filters: a condition per endpoint, in CEL, that says which of the events it is subscribed to it gets.

What decides is `payload`, and `event.id`, `event.type`, `event.tenant` and `event.occurred_at`. A filter that fails for
an event, because a field is missing for one, does not hold the event back: a filter spares a subscriber what it does not
want, and a mistake in it must not lose what it does want.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from dispatcher.errors import InvalidInput
from dispatcher.expressions import PAYLOAD, ExpressionFailed, condition, header_of, shown, variables_of
from dispatcher.model import Event

FIELD = "filter"


@dataclass(frozen=True, slots=True)
class Passed:
    """The event is wanted."""


@dataclass(frozen=True, slots=True)
class Held:
    """The filter said no: no delivery is made."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The filter came to nothing, so that the event is delivered all the same."""

    why: str


Decision = Passed | Held | Failed


def check_filter(text: str | None) -> str | None:
    """Return a filter that can be used, null for none; raises InvalidInput, naming what is wrong and where."""
    if text is None or not text.strip():
        return None
    return condition(text, field=FIELD).text


class Judge:
    """Decides about one event, for any number of endpoints; its payload is parsed once, when a filter first names it."""

    def __init__(self, event: Event) -> None:
        self._event = event
        self._variables: Mapping[str, object] | None = None
        self._decided: dict[str, Decision] = {}

    def decide(self, text: str) -> Decision:
        """Apply a filter as it is stored; whatever is wrong with it or with the payload is a decision."""
        decision = self._decided.get(text)
        if decision is None:
            decision = self._decided[text] = self._decide(text)
        return decision

    def _seen_by(self, text: str) -> Mapping[str, object]:
        if PAYLOAD not in text:  # nor parsed
            return header_of(self._event)
        if self._variables is None:
            self._variables = variables_of(self._event)
        return self._variables

    def _decide(self, text: str) -> Decision:
        try:
            answer = condition(text, field=FIELD).evaluate(self._seen_by(text))
        except InvalidInput as error:  # written into the table by hand, or by another release
            return Failed(str(error))
        except ExpressionFailed as error:
            return Failed(f"`{shown(text)}` failed: {error}.")
        if answer is True:
            return Passed()
        if answer is False:
            return Held()
        return Failed(f"It is neither true nor false, but a {type(answer).__name__}.")
