-- name: fresh_latest
-- Pending deliveries of an endpoint that are due since they were created, the latest first: $1 endpoint, $2 shard, $3 and $4
-- before this instant and id, $5 not before this instant, $6 at most so many, $7 now. A walk along the lane, whose order is
-- theirs, too; it passes over what is due at another time, and begins at now, below which only little of that is.
select deliveries.id, deliveries.created_at as at, null::timestamptz as finished_at
from dispatcher.deliveries
where (deliveries.shard, deliveries.endpoint_id, deliveries.due_at, deliveries.id) < ($2, $1, $3, $4)
  and (deliveries.shard, deliveries.endpoint_id, deliveries.due_at) >= ($2, $1, $5)
  and (deliveries.shard, deliveries.endpoint_id, deliveries.due_at) <= ($2, $1, coalesce($7, now()))
  and deliveries.due_at = deliveries.created_at
order by deliveries.shard desc, deliveries.endpoint_id desc, deliveries.due_at desc, deliveries.id desc
limit $6;

-- name: fresh_earliest
-- The same, the earliest first: $3 and $4 behind this instant and id, $5 before this instant.
select deliveries.id, deliveries.created_at as at, null::timestamptz as finished_at
from dispatcher.deliveries
where (deliveries.shard, deliveries.endpoint_id, deliveries.due_at, deliveries.id) > ($2, $1, $3, $4)
  and (deliveries.shard, deliveries.endpoint_id, deliveries.due_at) < ($2, $1, $5)
  and (deliveries.shard, deliveries.endpoint_id, deliveries.due_at) <= ($2, $1, coalesce($7, now()))
  and deliveries.due_at = deliveries.created_at
order by deliveries.shard, deliveries.endpoint_id, deliveries.due_at, deliveries.id
limit $6;

-- name: moved_latest
-- Pending deliveries of an endpoint that are due at another time than when they were created (retried, scheduled, in line
-- for an ordering key), the latest created first: $1 endpoint, $2 shard, $3 and $4 before this instant and id, $5 not before
-- this instant, $6 at most so many.
select deliveries.id, deliveries.created_at as at, null::timestamptz as finished_at
from dispatcher.deliveries
where deliveries.endpoint_id = $1
  and deliveries.shard = $2
  and deliveries.due_at <> deliveries.created_at
  and (deliveries.created_at, deliveries.id) < ($3, $4)
  and deliveries.created_at >= $5
order by deliveries.created_at desc, deliveries.id desc
limit $6;

-- name: moved_earliest
-- The same, the earliest created first: $3 and $4 behind this instant and id, $5 before this instant.
select deliveries.id, deliveries.created_at as at, null::timestamptz as finished_at
from dispatcher.deliveries
where deliveries.endpoint_id = $1
  and deliveries.shard = $2
  and deliveries.due_at <> deliveries.created_at
  and (deliveries.created_at, deliveries.id) > ($3, $4)
  and deliveries.created_at < $5
order by deliveries.created_at, deliveries.id
limit $6;

-- name: finished_latest
-- Finished deliveries of an endpoint, the latest created first: $1 endpoint, $2 and $3 before this instant and id, $4 not
-- before this instant, $5 and $6 finished from and before, $7 delivered ones only, $8 at most so many. What is finished
-- was created before, which spares the partitions of earlier days.
select finished.id, finished.created_at as at, finished.finished_at
from dispatcher.finished_deliveries as finished
where finished.endpoint_id = $1
  and (finished.created_at, finished.id) < ($2, $3)
  and finished.created_at >= $4
  and finished.finished_at >= greatest($4, $5)
  and finished.finished_at < $6
  and (finished.state = 'delivered' or not $7)
order by finished.created_at desc, finished.id desc
limit $8;

-- name: finished_earliest
-- The same, the earliest created first: $2 and $3 behind this instant and id, $4 before this instant.
select finished.id, finished.created_at as at, finished.finished_at
from dispatcher.finished_deliveries as finished
where finished.endpoint_id = $1
  and (finished.created_at, finished.id) > ($2, $3)
  and finished.created_at < $4
  and finished.finished_at >= greatest($2, $5)
  and finished.finished_at < $6
  and (finished.state = 'delivered' or not $7)
order by finished.created_at, finished.id
limit $8;

-- name: undelivered_latest
-- Dead and cancelled deliveries of an endpoint, the latest created first: $1 endpoint, $2 and $3 before this instant and
-- id, $4 not before this instant, $5 at most so many.
select finished.id, finished.created_at as at, finished.finished_at
from dispatcher.finished_deliveries as finished
where finished.endpoint_id = $1
  and finished.state <> 'delivered'
  and (finished.created_at, finished.id) < ($2, $3)
  and finished.created_at >= $4
  and finished.finished_at >= $4
order by finished.created_at desc, finished.id desc
limit $5;

-- name: undelivered_earliest
-- The same, the earliest created first: $2 and $3 behind this instant and id, $4 before this instant.
select finished.id, finished.created_at as at, finished.finished_at
from dispatcher.finished_deliveries as finished
where finished.endpoint_id = $1
  and finished.state <> 'delivered'
  and (finished.created_at, finished.id) > ($2, $3)
  and finished.created_at < $4
  and finished.finished_at >= $2
order by finished.created_at, finished.id
limit $5;

-- name: delivered_latest
-- Delivered ones of an endpoint, the latest delivered first: $1 endpoint, $2 and $3 before this instant and id, $4 not
-- before this instant, $5 and $6 created from and before, $7 at most so many.
select finished.id, finished.finished_at as at, finished.finished_at
from dispatcher.finished_deliveries as finished
where finished.endpoint_id = $1
  and finished.state = 'delivered'
  and (finished.finished_at, finished.id) < ($2, $3)
  and finished.finished_at >= $4
  and finished.created_at >= $5
  and finished.created_at < $6
order by finished.finished_at desc, finished.id desc
limit $7;

-- name: delivered_earliest
-- The same, the earliest delivered first: $2 and $3 behind this instant and id, $4 before this instant.
select finished.id, finished.finished_at as at, finished.finished_at
from dispatcher.finished_deliveries as finished
where finished.endpoint_id = $1
  and finished.state = 'delivered'
  and (finished.finished_at, finished.id) > ($2, $3)
  and finished.finished_at < $4
  and finished.created_at >= $5
  and finished.created_at < $6
order by finished.finished_at, finished.id
limit $7;

-- name: entries
-- Deliveries with their event's type: $1 ids, $2 when each was finished, null for pending ones, $3 their shard.
select
  entry.id, entry.endpoint_id, entry.event_id, entry.event_at, entry.created_at, entry.attempts, entry.manual,
  entry.state, entry.reason, entry.status, entry.error, entry.due_at, entry.finished_at, outbox.event_type
from unnest($1::bigint[], $2::timestamptz[]) with ordinality as wanted (id, finished_at, place)
cross join lateral (
  select
    deliveries.id, deliveries.endpoint_id, deliveries.event_id, deliveries.event_at, deliveries.created_at,
    deliveries.attempts, deliveries.manual, 'pending' as state, null::text as reason,
    null::smallint as status, null::text as error, nullif(deliveries.due_at, 'infinity') as due_at,
    null::timestamptz as finished_at
  from dispatcher.deliveries
  where deliveries.id = wanted.id
    and deliveries.shard = $3
    and wanted.finished_at is null
  union all
  select
    finished.id, finished.endpoint_id, finished.event_id, finished.event_at, finished.created_at,
    finished.attempts, finished.manual, finished.state, finished.reason,
    finished.status, finished.error, null::timestamptz as due_at,
    finished.finished_at
  from dispatcher.finished_deliveries as finished
  where finished.id = wanted.id
    and finished.finished_at = wanted.finished_at
) as entry
left join lateral (
  select outbox.event_type
  from dispatcher.outbox
  where outbox.id = entry.event_id
    and outbox.inserted_at = entry.event_at
  limit 1
) as outbox on true
order by wanted.place;

-- name: sift
-- Which of some deliveries a filter lets through, by their place: $1 ids, $2 when each was finished, null for pending ones,
-- $3 their shard, $4 this event type or null, $5 this status of the last attempt or null, $6 a part of what it failed with,
-- in lower case, or null. The event is looked up only if its type is asked for.
select wanted.place::integer
from unnest($1::bigint[], $2::timestamptz[]) with ordinality as wanted (id, finished_at, place)
cross join lateral (
  select deliveries.event_id, deliveries.event_at, last.status, last.error
  from dispatcher.deliveries
  left join lateral (
    select attempts.status, attempts.error
    from dispatcher.attempts
    where deliveries.attempts > 0
      and attempts.delivery_id = deliveries.id
      and attempts.started_at >= deliveries.created_at
    order by attempts.number desc
    limit 1
  ) as last on true
  where deliveries.id = wanted.id
    and deliveries.shard = $3
    and wanted.finished_at is null
  union all
  select finished.event_id, finished.event_at, finished.status, finished.error
  from dispatcher.finished_deliveries as finished
  where finished.id = wanted.id
    and finished.finished_at = wanted.finished_at
) as entry
left join lateral (
  select outbox.event_type
  from dispatcher.outbox
  where $4::text is not null
    and outbox.id = entry.event_id
    and outbox.inserted_at = entry.event_at
  limit 1
) as event on true
where ($4 is null or event.event_type = $4)
  and ($5::smallint is null or entry.status = $5)
  and ($6::text is null or position($6 in lower(entry.error)) > 0)
order by wanted.place;

-- name: last_attempts
-- The last attempt of each of some deliveries: $1 ids, $2 not before this instant, which spares earlier partitions.
select wanted.id as delivery_id, last.started_at, last.status, last.error
from unnest($1::bigint[]) as wanted (id)
cross join lateral (
  select attempts.started_at, attempts.status, attempts.error
  from dispatcher.attempts
  where attempts.delivery_id = wanted.id
    and attempts.started_at >= $2
  order by attempts.number desc
  limit 1
) as last;

-- name: payloads
-- Payloads of events: $1 events, $2 their inserted_at.
select wanted.id as event_id, outbox.payload
from unnest($1::uuid[], $2::timestamptz[]) as wanted (id, inserted_at)
cross join lateral (
  select outbox.payload
  from dispatcher.outbox
  where outbox.id = wanted.id
    and outbox.inserted_at = wanted.inserted_at
  limit 1
) as outbox;
