"""Insert an event in the transaction that makes what it tells of.

    pip install asyncpg
    DATABASE_URL=postgresql://… python producer.py

Any other driver does it as well: it is one insert. The table `appointments` stands for the application's own.
"""

import asyncio
import json
import os
from datetime import UTC, datetime

import asyncpg

CREATE = "create table if not exists appointments (id int primary key, starts_at timestamptz not null)"

INSERT = """
insert into dispatcher.outbox (tenant, event_type, payload, idempotency_key)
values ($1, $2, $3, $4)
"""


async def book(connection: asyncpg.Connection, appointment: int, starts_at: datetime) -> bool:
    """Make an appointment and its event; returns False if the event was there already, from an earlier try."""
    payload = {"resource_id": str(appointment), "resource_id_type": "Appointment", "changed_fields": []}
    async with connection.transaction():
        await connection.execute(
            "insert into appointments (id, starts_at) values ($1, $2) on conflict do nothing", appointment, starts_at
        )
        status = await connection.execute(
            INSERT, "acme", "appointment.created", json.dumps(payload), f"appointment-{appointment}"
        )
    return bool(status != "INSERT 0 0")


async def main() -> None:
    """Book the same appointment twice, as a job does that is started again."""
    connection = await asyncpg.connect(os.environ["DATABASE_URL"])
    try:
        await connection.execute(CREATE)
        for _ in range(2):
            new = await book(connection, 67890, datetime(2026, 3, 2, 9, 30, tzinfo=UTC))
            print("The event is in the outbox." if new else "Skipped: it is there already.")
    finally:
        await connection.close()


if __name__ == "__main__":
    asyncio.run(main())
