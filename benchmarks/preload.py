"""Fill the tables with what has waited for long: pending deliveries and their events, by the database itself.

As fan-out would have left them; only the triggers of the outbox are passed by, so that millions are there in minutes.
"""

from typing import Any, Final

from benchmarks import events
from benchmarks.errors import BenchmarkError

CHUNK: Final = 250_000
"""Rows a statement: some seconds' work, so that progress can be shown."""

FILL: Final = """
with endpoint as (
  select tenant, shard, id as endpoint_id, row_number() over (order by created_at, id) - 1 as number
  from dispatcher.endpoints
  where tenant = any ($1::text[])
), event as (
  insert into dispatcher.outbox (tenant, event_type, payload, shard, occurred_at, inserted_at)
  select
    endpoint.tenant, $2, ($3 || n || $4)::json, endpoint.shard,
    transaction_timestamp() - interval '1 minute', transaction_timestamp() - interval '1 minute'
  from generate_series($5::bigint, $6::bigint) as n
  join endpoint on endpoint.number = n % (select count(*) from endpoint)
  returning id, inserted_at, tenant
)
insert into dispatcher.deliveries (endpoint_id, event_id, event_at, created_at, due_at, shard)
select endpoint.endpoint_id, event.id, event.inserted_at, event.inserted_at, event.inserted_at, endpoint.shard
from event
join endpoint using (tenant)
"""
"""$1 tenants, one endpoint each; $2 event type; $3 and $4 payload before and after the number; $5 to $6 numbers."""


async def fill(connection: Any, count: int, *, tenants: list[str], size: int) -> None:
    """Let `count` deliveries be pending, in turn for each tenant's endpoint; a running worker does not know of them yet.

    Raises BenchmarkError where the user may not switch triggers off.
    """
    before, after = events.payload_around(size)
    for first in range(0, count, CHUNK):
        async with connection.transaction():
            try:
                await connection.execute("set local session_replication_role = replica")
            except Exception as error:
                raise BenchmarkError(f"A backlog can only be made by a superuser: {error}") from error
            last = min(first + CHUNK, count) - 1
            await connection.execute(FILL, tenants, events.EVENT_TYPE, before, after, first, last)
    # as autovacuum would have done while such a backlog grew; else it would do so while something is measured
    await connection.execute("vacuum analyze dispatcher.deliveries")
    await connection.execute("vacuum analyze dispatcher.outbox")


async def announce(connection: Any, tenants: list[str]) -> None:
    """Let a running worker look at the endpoints of some tenants anew."""
    await connection.execute(
        "update dispatcher.endpoints set changed_at = clock_timestamp() where tenant = any ($1::text[])", tenants
    )


async def set_state(connection: Any, tenants: list[str], state: str) -> None:
    """Let the endpoints of some tenants be `active` or `paused`, as the API does."""
    await connection.execute(
        "update dispatcher.endpoints set state = $2, changed_at = clock_timestamp() where tenant = any ($1::text[])",
        tenants,
        state,
    )
