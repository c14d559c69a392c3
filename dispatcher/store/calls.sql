-- name: prefer_order
-- Let the statements below, until the transaction ends, go along the index that has their order: some filters look so
-- selective to the planner that it would rather read all that is left and sort it. Behind PgBouncer the session cannot say so.
set local enable_sort = off;
set local enable_seqscan = off;

-- name: pending
-- A walk: all pending deliveries, the newest first: $10 and $11 with ids below and from, $12 at most so many.
select
  deliveries.id, deliveries.endpoint_id, deliveries.event_id, deliveries.event_at, deliveries.created_at,
  deliveries.attempts, deliveries.manual, 'pending' as state, null::text as reason,
  null::smallint as status, null::text as error, deliveries.due_at, null::timestamptz as finished_at
from dispatcher.deliveries
where deliveries.id < $10
  and deliveries.id >= $11
order by deliveries.id desc
limit $12;

-- name: pending_of_endpoints
-- A walk: pending deliveries of some endpoints, the latest created first: $10 and $11 before this instant and id, $12 not
-- before this instant, $13 at most so many, $14 endpoints, $15 their shards, $16 now. Reads little more than so many of each:
-- store/log.sql says how.
select picked.*
from unnest($14::uuid[], $15::smallint[]) as lane (endpoint_id, shard)
cross join lateral (
  (
    select
      deliveries.id, deliveries.endpoint_id, deliveries.event_id, deliveries.event_at, deliveries.created_at,
      deliveries.attempts, deliveries.manual, 'pending' as state, null::text as reason,
      null::smallint as status, null::text as error, deliveries.due_at, null::timestamptz as finished_at
    from dispatcher.deliveries
    where (deliveries.shard, deliveries.endpoint_id, deliveries.due_at, deliveries.id)
        < (lane.shard, lane.endpoint_id, $10, $11)
      and (deliveries.shard, deliveries.endpoint_id, deliveries.due_at) >= (lane.shard, lane.endpoint_id, $12)
      and (deliveries.shard, deliveries.endpoint_id, deliveries.due_at)
        <= (lane.shard, lane.endpoint_id, coalesce($16, now()))
      and deliveries.due_at = deliveries.created_at
    order by deliveries.shard desc, deliveries.endpoint_id desc, deliveries.due_at desc, deliveries.id desc
    limit $13
  )
  union all
  (
    select
      deliveries.id, deliveries.endpoint_id, deliveries.event_id, deliveries.event_at, deliveries.created_at,
      deliveries.attempts, deliveries.manual, 'pending' as state, null::text as reason,
      null::smallint as status, null::text as error, deliveries.due_at, null::timestamptz as finished_at
    from dispatcher.deliveries
    where deliveries.endpoint_id = lane.endpoint_id
      and deliveries.shard = lane.shard
      and deliveries.due_at <> deliveries.created_at
      and (deliveries.created_at, deliveries.id) < ($10, $11)
      and deliveries.created_at >= $12
    order by deliveries.created_at desc, deliveries.id desc
    limit $13
  )
) as picked
order by picked.created_at desc, picked.id desc
limit $13;

-- name: pending_of_event
-- A walk: pending deliveries of an event, the newest first: $10 and $11 with ids below and from, $12 at most so many, $13
-- event.
select
  deliveries.id, deliveries.endpoint_id, deliveries.event_id, deliveries.event_at, deliveries.created_at,
  deliveries.attempts, deliveries.manual, 'pending' as state, null::text as reason,
  null::smallint as status, null::text as error, deliveries.due_at, null::timestamptz as finished_at
from (
  select *
  from dispatcher.deliveries
  where deliveries.event_id = $13
    and deliveries.id < $10
    and deliveries.id >= $11
  offset 0 -- by the event's index, which few rows share
) as deliveries
order by deliveries.id desc
limit $12;

-- name: finished
-- A walk: all finished deliveries, the newest first: $10 and $11 with ids below and from, $12 finished from this instant on,
-- which spares the partitions of earlier days, $13 at most so many.
select
  finished.id, finished.endpoint_id, finished.event_id, finished.event_at, finished.created_at,
  finished.attempts, finished.manual, finished.state, finished.reason,
  finished.status, finished.error, null::timestamptz as due_at, finished.finished_at
from dispatcher.finished_deliveries as finished
where finished.id < $10
  and finished.id >= $11
  and finished.finished_at >= $12
order by finished.id desc
limit $13;

-- name: undelivered
-- The same walk without those that were delivered.
select
  finished.id, finished.endpoint_id, finished.event_id, finished.event_at, finished.created_at,
  finished.attempts, finished.manual, finished.state, finished.reason,
  finished.status, finished.error, null::timestamptz as due_at, finished.finished_at
from dispatcher.finished_deliveries as finished
where finished.state <> 'delivered'
  and finished.id < $10
  and finished.id >= $11
  and finished.finished_at >= $12
order by finished.id desc
limit $13;

-- name: finished_of_event
-- The same walk of one event, delivered ones too: $14 event.
select
  finished.id, finished.endpoint_id, finished.event_id, finished.event_at, finished.created_at,
  finished.attempts, finished.manual, finished.state, finished.reason,
  finished.status, finished.error, null::timestamptz as due_at, finished.finished_at
from (
  select *
  from dispatcher.finished_deliveries
  where finished_deliveries.event_id = $14
    and finished_deliveries.id < $10
    and finished_deliveries.id >= $11
    and finished_deliveries.finished_at >= $12
  offset 0 -- by the event's index, which few rows share
) as finished
order by finished.id desc
limit $13;

-- name: finished_of_endpoints
-- A walk: finished deliveries of some endpoints, the latest created first: $10 and $11 before this instant and id, $12 not
-- before this instant, $13 at most so many, $14 endpoints. Reads no more than so many of each.
select picked.*
from unnest($14::uuid[]) as lane (endpoint_id)
cross join lateral (
  select
    finished.id, finished.endpoint_id, finished.event_id, finished.event_at, finished.created_at,
    finished.attempts, finished.manual, finished.state, finished.reason,
    finished.status, finished.error, null::timestamptz as due_at, finished.finished_at
  from dispatcher.finished_deliveries as finished
  where finished.endpoint_id = lane.endpoint_id
    and (finished.created_at, finished.id) < ($10, $11)
    and finished.created_at >= $12
    and finished.finished_at >= $12
  order by finished.created_at desc, finished.id desc
  limit $13
) as picked
order by picked.created_at desc, picked.id desc
limit $13;

-- name: undelivered_of_endpoints
-- The same walk without those that were delivered.
select picked.*
from unnest($14::uuid[]) as lane (endpoint_id)
cross join lateral (
  select
    finished.id, finished.endpoint_id, finished.event_id, finished.event_at, finished.created_at,
    finished.attempts, finished.manual, finished.state, finished.reason,
    finished.status, finished.error, null::timestamptz as due_at, finished.finished_at
  from dispatcher.finished_deliveries as finished
  where finished.endpoint_id = lane.endpoint_id
    and finished.state <> 'delivered'
    and (finished.created_at, finished.id) < ($10, $11)
    and finished.created_at >= $12
    and finished.finished_at >= $12
  order by finished.created_at desc, finished.id desc
  limit $13
) as picked
order by picked.created_at desc, picked.id desc
limit $13;

-- name: sift
-- What passes the filters among what a walk finds (its statement stands in the place of `walk`), in its order, and how far
-- it came: $1 state, $2 and $3 last status from and to, $4 class of the last error, $5 event type, $6 endpoints, each null:
-- no matter; $7 and $8 created from and before, $9 at most so many. At least one row if there was any, for how many were
-- looked at and the last of them. What ended without an attempt of its own (cancelled, expired) has its last status in the
-- log of attempts, as what is pending has.
with walked as materialized (
  select ordered.*, row_number() over () as place
  from (
    /* walk */
  ) as ordered
), edge as (
  select walked.place, walked.id, walked.created_at
  from walked
  order by walked.place desc
  limit 1
), fit as (
  select walked.*
  from walked
  left join lateral (
    select attempts.status, attempts.error
    from dispatcher.attempts
    where ($2::smallint is not null or $4::text is not null)
      and walked.status is null
      and walked.error is null
      and walked.attempts > 0
      and attempts.delivery_id = walked.id
      and attempts.number = walked.attempts
      and attempts.started_at >= walked.created_at - interval '1 minute' -- a worker's clock, not this one, timed its start
      and attempts.started_at <= coalesce(walked.finished_at, now() + interval '1 day')
    limit 1
  ) as last on true
  left join lateral (
    select outbox.event_type
    from dispatcher.outbox
    where $5::text is not null
      and outbox.id = walked.event_id
      and outbox.inserted_at = walked.event_at
    limit 1
  ) as event on true
  where ($1::text is null or walked.state = $1)
    and ($6::uuid[] is null or walked.endpoint_id = any ($6))
    and ($2::smallint is null or coalesce(walked.status, last.status) between $2 and $3::smallint)
    and ($4::text is null or split_part(coalesce(walked.error, last.error), ': ', 1) = $4)
    and ($5::text is null or event.event_type = $5)
    and walked.created_at >= $7
    and walked.created_at < $8
  order by walked.place
  limit $9
)
select
  edge.place as walked, edge.id as edge_id, edge.created_at as edge_at,
  fit.id, fit.endpoint_id, fit.event_id, fit.event_at, fit.created_at, fit.attempts, fit.manual, fit.state, fit.reason,
  nullif(fit.due_at, 'infinity') as due_at, fit.finished_at, fit.status, fit.error
from edge
left join fit on true
order by fit.place;

-- name: shown
-- What is told of deliveries beside their own row, in their order: $1 ids, $2 endpoints, $3 events, $4 inserted_at of these,
-- $5 attempts so far, $6 created at, $7 finished at or null.
select
  endpoints.tenant, endpoints.url, event.event_type,
  last.started_at, last.milliseconds, last.status, last.error
from unnest(
  $1::bigint[], $2::uuid[], $3::uuid[], $4::timestamptz[], $5::smallint[], $6::timestamptz[], $7::timestamptz[]
) with ordinality as wanted (id, endpoint_id, event_id, event_at, attempts, created_at, finished_at, place)
join dispatcher.endpoints on endpoints.id = wanted.endpoint_id
left join lateral (
  select outbox.event_type
  from dispatcher.outbox
  where outbox.id = wanted.event_id
    and outbox.inserted_at = wanted.event_at
  limit 1
) as event on true
left join lateral (
  select attempts.started_at, attempts.milliseconds, attempts.status, attempts.error
  from dispatcher.attempts
  where attempts.delivery_id = wanted.id
    and attempts.number = wanted.attempts
    and attempts.started_at >= wanted.created_at - interval '1 minute'
    and attempts.started_at <= coalesce(wanted.finished_at, now() + interval '1 day')
  limit 1
) as last on true
order by wanted.place;

-- name: endpoints_of
-- Endpoints of a tenant, archived ones too: $1 tenant, $2 at most so many.
select endpoints.id, endpoints.shard
from dispatcher.endpoints
where endpoints.tenant = $1
limit $2;

-- name: first_id_at
-- The id from which on deliveries were created at an instant or later, found by halving: $1 the instant, $2 finished from
-- this instant on. Ids ascend with time but for transactions that overlapped: keep a margin.
with recursive bounds (low, high) as (
  select
    least(
      (select min(deliveries.id) from dispatcher.deliveries),
      (select min(finished.id) from dispatcher.finished_deliveries as finished where finished.finished_at >= $2)
    ),
    1 + greatest(
      (select max(deliveries.id) from dispatcher.deliveries),
      (select max(finished.id) from dispatcher.finished_deliveries as finished where finished.finished_at >= $2)
    )
  union all
  select
    case when probe.created_at < $1 then probe.id + 1 else bounds.low end,
    case when probe.created_at < $1 then bounds.high else bounds.low + (bounds.high - bounds.low) / 2 end
  from bounds
  cross join lateral (
    select found.id, found.created_at
    from (
      (
        select deliveries.id, deliveries.created_at
        from dispatcher.deliveries
        where deliveries.id >= bounds.low + (bounds.high - bounds.low) / 2
        order by deliveries.id
        limit 1
      )
      union all
      (
        select finished.id, finished.created_at
        from dispatcher.finished_deliveries as finished
        where finished.id >= bounds.low + (bounds.high - bounds.low) / 2
          and finished.finished_at >= $2
        order by finished.id
        limit 1
      )
    ) as found
    order by found.id
    limit 1
  ) as probe
  where bounds.low < bounds.high
)
select bounds.low
from bounds
where bounds.low >= bounds.high;
