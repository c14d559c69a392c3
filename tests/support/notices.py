"""Notices for tests: written as `deliver` does, folded and sent by steps that are run until nothing is left."""

from collections import Counter
from datetime import UTC, datetime
from email.message import EmailMessage
from typing import Any
from uuid import UUID, uuid4

from dispatcher.mailer import Mailer, MailUnavailable
from dispatcher.model import DeliveryId, EndpointId, EventId, NoticeKind
from dispatcher.notify import Notify
from dispatcher.store import notices as store
from dispatcher.store.notices import NewNotice
from dispatcher.store.pool import Pool
from support.clock import FakeClock
from support.mail import MailList

HOUR = 3600.0


class Counts:
    """Metrics that a test can read."""

    def __init__(self) -> None:
        self.folded: Counter[str] = Counter()
        self.results: Counter[str] = Counter()
        self.oldest = 0.0

    def notices(self, kind: str, count: int) -> None:
        """Count notices."""
        self.folded[kind] += count

    def mails(self, result: str) -> None:
        """Count a mail."""
        self.results[result] += 1

    def oldest_unsent_mail(self, age: float) -> None:
        """Keep the age."""
        self.oldest = age


def step(pool: Pool, mailer: Mailer | None, clock: FakeClock, **changes: Any) -> Notify:
    """The step under test, with hourly digests."""
    options: dict[str, Any] = {"sender": "webhooks@example.com", "digest_every": HOUR}
    return Notify(pool, mailer, clock=clock, **(options | changes))


async def run(*steps: Notify) -> int:
    """Run steps, in turn, until none has anything left to do."""
    total = 0
    while did := sum([await step.run_once() for step in steps]):
        total += did
    return total


async def make_endpoint(connection: Any, email: str | None = "ops@example.org", *additional: str) -> EndpointId:
    """A row that notices can refer to."""
    await connection.execute(
        "insert into dispatcher.tenants (name, root, shard) values ('acme', 'acme', 7) on conflict do nothing"
    )
    made: EndpointId = await connection.fetchval(
        """
        insert into dispatcher.endpoints
          (tenant, shard, url, description, notification_email, additional_notification_emails)
        values ('acme', 7, 'https://example.org/hook?token=secret', 'Booking', $1, $2)
        returning id
        """,
        email,
        list(additional),
    )
    return made


def death(endpoint_id: EndpointId, number: int = 1, **changes: Any) -> NewNotice:
    """Delivery `number` died after ten attempts."""
    values: dict[str, Any] = {
        "kind": NoticeKind.DELIVERIES_DEAD,
        "endpoint_id": endpoint_id,
        "delivery_id": DeliveryId(number),
        "event_id": EventId(uuid4()),
        "event_type": "appointment.created",
        "attempts": 10,
        "first_attempt_at": 1_767_000_000.0,
        "last_attempt_at": 1_767_225_000.0,
        "reason": "exhausted",
        "status": 500,
    }
    return NewNotice(**(values | changes))


def health(endpoint_id: EndpointId, kind: NoticeKind, **changes: Any) -> NewNotice:
    """Something about the endpoint as a whole."""
    return NewNotice(kind=kind, endpoint_id=endpoint_id, **changes)


async def write(connection: Any, clock: FakeClock, *notices: NewNotice) -> None:
    """Write notices as `deliver` does."""
    async with connection.transaction():
        await store.write(connection, notices, now=clock.override())


def instant(clock: FakeClock) -> datetime:
    """The time by the clock, for SQL."""
    return datetime.fromtimestamp(clock.now(), UTC)


def subjects(mails: MailList) -> list[str]:
    """What arrived, in order, without what all have in common."""
    return [str(mail["Subject"]).removeprefix("[dispatcher] ") for mail in mails]


def server_down(_message: EmailMessage) -> None:
    """A mail server that cannot be reached."""
    raise MailUnavailable("no connection", server=True)


async def notices_by_mail(connection: Any) -> dict[UUID | None, int]:
    """How many notices are in which mail."""
    rows = await connection.fetch("select mail_id, count(*) from dispatcher.notices group by mail_id")
    return dict(rows)
