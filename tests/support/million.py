"""A history of a million deliveries, each with its event and its attempt, over five days; made once, in some seconds.

Tables are filled before they are attached, so that their indexes are built in one go.
"""

from typing import Any, Final

ROWS: Final = 1_000_000
"""Finished deliveries, and as many events and attempts; ids 1 to ROWS ascend with time."""

DAYS: Final = 5
PENDING: Final = 20_000
"""Of the busy endpoint; half of them are to be retried."""

FRESH: Final = 2000
"""Attempts of the last minute: those of pending deliveries."""

WIDE: Final = 250
"""Endpoints of the tenant `wide`, more than are walked one by one; every tenth delivery is one of theirs."""

DEAD: Final = 500
"""One delivery in so many is dead."""

RARE_ID: Final = ROWS // 2
"""The one delivery whose event is of the type `rare`, whose tenant is `lonely`."""


async def fill(connection: Any) -> None:
    """Fill a fresh database."""
    await connection.execute(ENDPOINTS, WIDE)
    await connection.execute("create temporary table made (like dispatcher.finished_deliveries)")
    await connection.execute(MADE, ROWS, DAYS, DEAD, RARE_ID)
    for back in range(DAYS, 0, -1):
        # what is made and filled in one transaction needs no WAL
        async with connection.transaction():
            await _fill_day(connection, back)
    await connection.execute(PENDING_ROWS, PENDING, ROWS)
    await connection.execute(FRESH_ATTEMPTS, FRESH)
    await connection.execute(
        "insert into dispatcher.mails (endpoint_id, kind, message_id, recipients, waiting, subject, text_body, html_body, "
        "notices, created_at, due_at, sent_at) "
        "select id, 'deliveries_dead', n::text, '{a@example.com}', '{}', 's', 't', 'h', 1, at, at, at "
        "from dispatcher.endpoints cross join generate_series(1, 300) as n "
        "cross join lateral (select now() - make_interval(mins => n * 20) as at) as instant"
    )
    await connection.execute("analyze")


async def _fill_day(connection: Any, back: int) -> None:
    for parent, rows in (("outbox", EVENTS), ("finished_deliveries", FINISHED), ("attempts", ATTEMPTS)):
        day, name = await connection.fetchrow(DAY, back, parent)
        await connection.execute(
            f"create table dispatcher.{name} (like dispatcher.{parent} including defaults including constraints)"
        )
        await connection.execute(f"insert into dispatcher.{name} {rows}", back)
        await connection.execute(
            f"alter table dispatcher.{parent} attach partition dispatcher.{name} "
            f"for values from ('{day} 00:00:00+00') to ('{day}'::date + 1)"
        )


ENDPOINTS: Final = """
with named as (
  insert into dispatcher.tenants (name, root, shard)
  select name, name, dispatcher.shard_of(name)
  from unnest(array['wide', 'busy', 'lonely', 'quiet']) as name
  returning name, shard
)
insert into dispatcher.endpoints (tenant, shard, url)
select named.name, named.shard, 'https://example.com/' || n
from named
cross join lateral generate_series(1, case named.name when 'wide' then $1::integer else 1 end) as n
"""

MADE: Final = """
insert into made
  (id, endpoint_id, event_id, event_at, created_at, finished_at, shard, attempts, manual, state, reason, status, error)
select
  n,
  case when n = $4 then lonely.id when n % 10 = 0 then wide.ids[1 + n / 10 % cardinality(wide.ids)] else busy.id end,
  gen_random_uuid(), at, at, at, busy.shard, 1, false,
  case n % $3 when 1 then 'dead' else 'delivered' end,
  case n % $3 when 1 then 'exhausted' end,
  case n % $3 when 1 then null else 200 end,
  case n % $3 when 1 then 'timeout: no answer within 15 s' end
from generate_series(1, $1::integer) as n
cross join lateral (
  select date_trunc('day', now(), 'UTC') - make_interval(secs => ($1 - n + 1) * $2 * 86400.0 / $1) as at
) as instant
cross join (select id, shard from dispatcher.endpoints where tenant = 'busy') as busy
cross join (select id from dispatcher.endpoints where tenant = 'lonely') as lonely
cross join (select array_agg(id) as ids from dispatcher.endpoints where tenant = 'wide') as wide
"""

DAY: Final = """
select day::text, $2 || '_' || to_char(day, 'YYYYMMDD')
from (select (now() at time zone 'UTC')::date - $1::integer as day) as day
"""

_OF_DAY: Final = """
from made
where created_at >= date_trunc('day', now(), 'UTC') - make_interval(days => $1)
  and created_at < date_trunc('day', now(), 'UTC') - make_interval(days => $1 - 1)
order by id
"""

EVENTS: Final = f"""
(id, tenant, event_type, payload, inserted_at, shard)
select event_id, 'any', case id when {RARE_ID} then 'rare' else 'A.b' end, '{{}}', event_at, shard
{_OF_DAY}
"""

FINISHED: Final = f"""
(id, endpoint_id, event_id, event_at, created_at, finished_at, shard, attempts, manual, state, reason, status, error)
select id, endpoint_id, event_id, event_at, created_at, finished_at, shard, attempts, manual, state, reason, status, error
{_OF_DAY}
"""

ATTEMPTS: Final = f"""
(delivery_id, endpoint_id, event_id, started_at, milliseconds, number, shard, outcome, status, verdict, error)
select
  id, endpoint_id, event_id, created_at, 20, 1, shard, case when status is null then 'unreachable' else 'answered' end,
  status, case when status is null then 'give_up' else 'done' end, error
{_OF_DAY}
"""

PENDING_ROWS: Final = """
insert into dispatcher.deliveries (id, endpoint_id, event_id, event_at, created_at, due_at, shard, attempts)
select $2 + n, id, gen_random_uuid(), at, at, at + make_interval(hours => n % 2), shard, n % 2
from dispatcher.endpoints
cross join generate_series(1, $1::integer) as n
cross join lateral (select now() - make_interval(secs => ($1 - n) * 0.01) as at) as instant
where tenant = 'busy'
"""

FRESH_ATTEMPTS: Final = """
insert into dispatcher.attempts
  (delivery_id, endpoint_id, event_id, started_at, milliseconds, number, shard, outcome, status, verdict)
select id, endpoint_id, event_id, created_at, 20, 1, shard, 'answered', 503, 'retry'
from dispatcher.deliveries
where attempts = 1
order by id desc
limit $1
"""
