"""What all shapes share: how strictly they are read, instants, problems."""

from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.alias_generators import to_camel


def _utc(instant: datetime) -> datetime:
    """Take an instant without an offset for UTC."""
    try:
        return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)
    except OverflowError:
        raise ValueError("The time is beyond the years 1 to 9999 in UTC.") from None


def _plus(value: object) -> object:
    """Mend what most programs get wrong: an unescaped `+` in a query is a blank when it arrives."""
    return value.replace(" ", "+") if isinstance(value, str) and value[10:11] == "T" else value


Instant = Annotated[datetime, AfterValidator(_utc)]
QueryInstant = Annotated[datetime, BeforeValidator(_plus), AfterValidator(_utc)]


class Given(BaseModel):
    """What is read: types are not guessed at, and unknown names are refused."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        alias_generator=to_camel,
        allow_inf_nan=False,
        hide_input_in_errors=True,
    )


class Asked(BaseModel):
    """A query: texts are read as what they are meant to be; unknown names are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Shown(BaseModel):
    """What is answered."""

    model_config = ConfigDict(extra="forbid", alias_generator=to_camel)


AttemptState = Literal["pending", "delivered", "dead", "cancelled"]


class WrongShown(BaseModel):
    """One thing that is wrong, and where it is."""

    model_config = ConfigDict(title="Wrong", extra="forbid")

    detail: str
    pointer: Annotated[str, Field(description="JSON pointer into the body.", examples=["/url"])] = ""
    parameter: Annotated[str, Field(description="Name of a query parameter.")] = ""
    header: Annotated[str, Field(description="Name of a header.")] = ""


class ProblemShown(BaseModel):
    """A problem (RFC 9457)."""

    model_config = ConfigDict(title="Problem", extra="forbid")

    type: Annotated[str, Field(description="Leads to its explanation.")]
    title: str
    status: int
    detail: Annotated[str, Field(description="What is wrong and how to mend it, for people.")]
    instance: Annotated[str, Field(description="The path that was called.")]
    errors: list[WrongShown] = []
