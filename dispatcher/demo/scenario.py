"""What the demo plays: tenants of four systems, the endpoints they register, and the events that happen to them.

Names, types and bodies are those of the systems' own documentation; people and ids in them are made up.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from dispatcher.model import DeliveryState


@dataclass(frozen=True, slots=True)
class Hook:
    """An endpoint of a tenant, at the sample receiver."""

    system: str
    tenant: str
    path: str
    subscriptions: tuple[str, ...]
    type_member: str
    """Where the body names the event type, for who receives it."""
    payload_format: str = "raw"
    retry_schedule: str | None = None
    notification_email: str | None = None


@dataclass(frozen=True, slots=True)
class Example:
    """An event, and which endpoints shall get it."""

    tenant: str
    event_type: str
    payload: str
    wanted_by: tuple[str, ...]
    """Paths."""


@dataclass(frozen=True, slots=True)
class Scene:
    """Some events of one transaction, and what to say about them."""

    says: str
    examples: tuple[Example, ...]
    beside: str | None = None
    """A statement of the application's own in the same transaction."""
    ending: str = "commit"

    @property
    def sql(self) -> str:
        """What the application sends to Postgres, as it is shown."""
        statement = insert_statement(self.examples)
        if self.beside is None:
            return statement
        return f"begin;\n{self.beside}\n{statement}\n{self.ending};"


def insert_statement(examples: Sequence[Example]) -> str:
    """Write the insert of some events."""
    rows = (f"({_literal(one.tenant)}, {_literal(one.event_type)}, {_literal(one.payload)})" for one in examples)
    return "insert into dispatcher.outbox (tenant, event_type, payload) values\n  " + ",\n  ".join(rows) + ";"


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


HERO, GLOW, VSEE, HEALTHIE = "pg_1042", "glow-dermatology", "clinic_xxx", "org_123"
"""Tenants: a practice group, a clinic, an account, an organisation."""

FAILING_SCHEDULE: Final = ("500ms", "1s")
"""Short, so that one can watch."""

FAILING = Hook(
    system="Decoda",
    tenant=GLOW,
    path="/decoda-payments",
    subscriptions=("PAYMENT_FAILED", "REFUND_FAILED"),
    type_member="type",
    retry_schedule=",".join(FAILING_SCHEDULE),
    notification_email="front-desk@glow-dermatology.example",
)
"""The endpoint whose receiver is out of order."""

HOOKS: Final = (
    Hook("Hero", HERO, "/hero", ("appointment.*", "patient.medical-record-updated"), type_member="event"),
    Hook("Decoda", GLOW, "/decoda", ("PATIENT_CREATED", "CALL_RECIEVED"), type_member="type"),
    FAILING,
    Hook("VSee", VSEE, "/vsee", ("visit.*",), type_member="type"),
    Hook("Healthie", HEALTHIE, "/healthie", ("appointment.created", "appointment.updated"), type_member="event_type"),
    Hook("Healthie", HEALTHIE, "/healthie-archive", ("*",), type_member="type", payload_format="standard"),
)

SET_UP: Final = """\
create table public.appointments (id int primary key, starts_at timestamptz not null);
create role application login;
grant select, insert on public.appointments to application;
grant dispatcher_producer to application;"""
"""What an administrator does once. The application's own table stands for all that an application has."""

_HERO = Scene(
    says="Hero Health: thin bodies, which name a record and leave it to the receiver to fetch it.",
    examples=(
        Example(
            HERO,
            "appointment.confirmed",
            '{ "object": "Appointment", "id": "apt_1", "practice_group_id": "pg_1042", "event": "appointment.confirmed" }',
            ("/hero",),
        ),
        Example(
            HERO,
            "patient.medical-record-updated",
            '{ "object": "Patient", "id": "pat_7", "practice_group_id": "pg_1042",'
            ' "event": "patient.medical-record-updated" }',
            ("/hero",),
        ),
    ),
)

_DECODA = Scene(
    says="Decoda Health: whole records. An event type is an opaque string: CALL_RECIEVED is theirs, and stays so.",
    examples=(
        Example(
            GLOW,
            "PATIENT_CREATED",
            """{"id": "evt_1234567890", "type": "PATIENT_CREATED",
    "data": {"id": "pat_1234567890", "firstName": "Chloé", "lastName": "O'Neill", "email": "chloe@patient.example"},
    "createdDate": "2024-03-15T10:30:00Z", "alertId": "alert_1234567890"}""",
            ("/decoda",),
        ),
        Example(
            GLOW,
            "CALL_RECIEVED",
            """{"id": "evt_1234567891", "type": "CALL_RECIEVED", "data": {"id": "call_1", "seconds": 1.50e2},
    "createdDate": "2024-03-15T10:31:00Z", "alertId": "alert_1234567891"}""",
            ("/decoda",),
        ),
    ),
)

_VSEE = Scene(
    says="VSee Clinic: one event type in two versions, 1.0 with numbers in strings and 2.0 without. Spaces survive, too.",
    examples=(
        Example(
            VSEE,
            "visit.ended",
            """{ "version": "1.0", "id": "5c34979c-30dc-496c-8cd3-6eb9925862c1",    "type": "visit.ended",
    "created": 1546950556,    "account_code": "xxx",    "data": {        "id": "28540",        "member_id": "60610",
    "provider_id": null,        "start": "1546950546",        "end": "1546951446",        "status": "40" } }""",
            ("/vsee",),
        ),
        Example(
            VSEE,
            "visit.ended",
            """{ "version": "2.0", "id": "5c34979c-30dc-496c-8cd3-6eb9925862c1",    "type": "visit.ended",
    "created": 1546950556,    "clinic_code": "xxx",    "data": {        "id": "28540",        "member_id": "60610",
    "provider_id": null,        "start": 1546950546,        "end": 1546951446,        "status": "cancelled" } }""",
            ("/vsee",),
        ),
    ),
)

_HEALTHIE = Scene(
    says=(
        "Healthie: the event is written in the transaction that makes the appointment. Two endpoints want it: one gets "
        'the payload itself, the other one the standard format, {"type", "timestamp", "data"}.'
    ),
    beside="insert into public.appointments (id, starts_at) values (67890, '2026-03-02 09:30+00');",
    examples=(
        Example(
            HEALTHIE,
            "appointment.created",
            """{"resource_id": "67890", "resource_id_type": "Appointment", "event_type": "appointment.created",
    "changed_fields": [], "resource_organization_id": "org_123"}""",
            ("/healthie", "/healthie-archive"),
        ),
    ),
)

_HEALTHIE_UPDATE = Scene(
    says="And then it is moved: what changed is named.",
    examples=(
        Example(
            HEALTHIE,
            "appointment.updated",
            """{"resource_id": "67890", "resource_id_type": "Appointment", "event_type": "appointment.updated",
    "changed_fields": ["date", "pm_status"], "resource_organization_id": "org_123"}""",
            ("/healthie", "/healthie-archive"),
        ),
    ),
)

SCENES: Final = (_HERO, _DECODA, _VSEE, _HEALTHIE, _HEALTHIE_UPDATE)

ROLLED_BACK: Final = Scene(
    says="The appointment is not made after all, and neither is its event.",
    beside="insert into public.appointments (id, starts_at) values (67891, '2026-03-02 10:00+00');",
    examples=(
        Example(
            HEALTHIE,
            "appointment.created",
            """{"resource_id": "67891", "resource_id_type": "Appointment", "event_type": "appointment.created",
    "changed_fields": [], "resource_organization_id": "org_123"}""",
            (),
        ),
    ),
    ending="rollback",
)

UNWANTED: Final = Scene(
    says="No endpoint of this tenant is subscribed to this type. The event is recorded, and so is that nobody wants it.",
    examples=(
        Example(
            HERO,
            "write-to-record.failed",
            '{ "object": "WriteToRecordEntry", "id": "wtr_3", "practice_group_id": "pg_1042",'
            ' "event": "write-to-record.failed" }',
            (),
        ),
    ),
)

DYING: Final = Scene(
    says=(
        f"The receiver behind {FAILING.path} is out of order: it answers 500. The endpoint's retry schedule is short, "
        f"{' and '.join(FAILING_SCHEDULE)}; the default one goes on for more than three days."
    ),
    examples=(
        Example(
            GLOW,
            "PAYMENT_FAILED",
            """{"id": "evt_1234567892", "type": "PAYMENT_FAILED", "data": {"id": "pay_9", "amount": 125.00},
    "createdDate": "2024-03-15T10:32:00Z", "alertId": "alert_1234567892"}""",
            (FAILING.path,),
        ),
    ),
)

COMMITTED_EXAMPLES: Final = tuple(example for scene in (*SCENES, UNWANTED, DYING) for example in scene.examples)


def expected_state(path: str) -> DeliveryState:
    """How a delivery to the endpoint at `path` shall end."""
    return DeliveryState.DEAD if path == FAILING.path else DeliveryState.DELIVERED
