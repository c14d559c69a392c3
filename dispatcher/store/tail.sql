-- name: now
-- What a statement sees at this moment, and when that is: $1 overrides now.
select pg_current_snapshot()::text as snapshot, coalesce($1, now()) as at;

-- name: everywhere
-- Attempts of all endpoints: $2 started from this instant on.
select attempts.*, attempts.xmin as written_by
from dispatcher.attempts
where attempts.started_at >= $2;

-- name: of_endpoints
-- The same of some endpoints: $10 endpoints.
select attempts.*
from unnest($10::uuid[]) as lane (endpoint_id)
cross join lateral (
  select attempts.*, attempts.xmin as written_by
  from dispatcher.attempts
  where attempts.endpoint_id = lane.endpoint_id
    and attempts.started_at >= $2
  offset 0 -- endpoint by endpoint
) as attempts;

-- name: latest
-- Those of them (their statement stands in the place of `attempts`) that were written down since a snapshot, the newest
-- first: $1 the snapshot or null (all); $3 and $4 status from and to, $5 class of the error, $6 verdict, $7 event type, each
-- null: no matter; $8 at most so many, $9 look up the events of at most so many. Which transactions are new the snapshot
-- knows exactly: however late one commits, its rows come once. Their age in transactions is compared first, because it costs
-- less; a transaction's number has 32 bits in a row and 64 in a snapshot. At least one row if there was any.
with anchor as materialized (
  select
    pg_snapshot_xmax(pg_current_snapshot())::text::bigint as id,
    $1::text::pg_snapshot as behind,
    age((pg_snapshot_xmin($1::text::pg_snapshot)::text::bigint % 4294967296)::text::xid) as age
), fresh as materialized (
  select
    attempts.delivery_id, attempts.number, attempts.started_at, attempts.milliseconds, attempts.endpoint_id,
    attempts.event_id, attempts.outcome, attempts.status, attempts.verdict, attempts.error
  from (
    /* attempts */
  ) as attempts
  cross join anchor
  where ($3::smallint is null or attempts.status between $3 and $4::smallint)
    and ($5::text is null or split_part(attempts.error, ': ', 1) = $5)
    and ($6::text is null or attempts.verdict = $6)
    and (
      anchor.behind is null
      or case
        when age(attempts.written_by) > anchor.age then false
        else not pg_visible_in_snapshot(
          (
            anchor.id
            - ((anchor.id - attempts.written_by::text::bigint) % 4294967296 + 4294967296) % 4294967296
          )::text::xid8,
          anchor.behind
        )
      end
    )
), newest as (
  select *
  from fresh
  order by fresh.started_at desc, fresh.delivery_id desc, fresh.number desc
  limit $9
), told as (
  select newest.*, endpoints.tenant, endpoints.url, event.event_type
  from newest
  join dispatcher.endpoints on endpoints.id = newest.endpoint_id
  left join lateral (
    select outbox.event_type
    from (
      select deliveries.event_at
      from dispatcher.deliveries
      where deliveries.id = newest.delivery_id
      union all
      select finished.event_at
      from dispatcher.finished_deliveries as finished
      where finished.id = newest.delivery_id
        and finished.finished_at >= newest.started_at
      limit 1
    ) as delivery
    join dispatcher.outbox on outbox.id = newest.event_id and outbox.inserted_at = delivery.event_at
    limit 1
  ) as event on true
  where ($7::text is null or event.event_type = $7)
  order by newest.started_at desc, newest.delivery_id desc, newest.number desc
  limit $8
)
select total.count as total, told.*
from (select count(*) as count from fresh) as total
left join told on true
order by told.started_at desc, told.delivery_id desc, told.number desc;
