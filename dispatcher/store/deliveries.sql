-- name: pull
-- Due deliveries of some lanes past each lane's cursor: $1 shards, $2 endpoints, $3 due after (instant), $4 and past
-- this id at that instant, $5 at most so many a lane, $6 now.
select
  due.id,
  due.shard,
  due.endpoint_id,
  due.attempts,
  due.manual,
  due.notify,
  due.ordering_key is not null as ordered,
  extract(epoch from due.due_at)::float8 as due_at,
  extract(epoch from due.created_at)::float8 as created_at,
  extract(epoch from due.expires_at)::float8 as expires_at,
  event.id as event_id,
  event.tenant,
  event.event_type,
  event.payload,
  extract(epoch from event.occurred_at)::float8 as occurred_at,
  extract(epoch from event.inserted_at)::float8 as inserted_at
from unnest($1::smallint[], $2::uuid[], $3::timestamptz[], $4::bigint[], $5::integer[])
  as lane (shard, endpoint_id, after_due, after_id, count)
cross join lateral (
  select *
  from dispatcher.deliveries
  where (deliveries.shard, deliveries.endpoint_id, deliveries.due_at, deliveries.id)
      > (lane.shard, lane.endpoint_id, lane.after_due, lane.after_id)
    and (deliveries.shard, deliveries.endpoint_id, deliveries.due_at)
      <= (lane.shard, lane.endpoint_id, coalesce($6, now()))
  order by deliveries.shard, deliveries.endpoint_id, deliveries.due_at, deliveries.id
  limit lane.count
) as due
cross join lateral (
  select *
  from dispatcher.outbox
  where outbox.id = due.event_id
    and outbox.inserted_at = due.event_at
  limit 1 -- keeps the planner, who cannot know how few rows are due, from reading the whole outbox into a hash
) as event;

-- name: next_due
-- When some lanes have their next work after an instant: $1 shards, $2 endpoints, $3 instants. Lanes without are left out.
select
  lane.endpoint_id,
  extract(epoch from next.due_at)::float8 as due_at
from unnest($1::smallint[], $2::uuid[], $3::timestamptz[]) as lane (shard, endpoint_id, after_due)
cross join lateral (
  select deliveries.due_at
  from dispatcher.deliveries
  where (deliveries.shard, deliveries.endpoint_id, deliveries.due_at)
      > (lane.shard, lane.endpoint_id, lane.after_due)
    and (deliveries.shard, deliveries.endpoint_id, deliveries.due_at)
      < (lane.shard, lane.endpoint_id, timestamptz 'infinity')
  order by deliveries.shard, deliveries.endpoint_id, deliveries.due_at
  limit 1
) as next;

-- name: lanes_with_work
-- Which endpoints of some shards have pending deliveries, and when the first is due: $1 shards. Jumps from endpoint to
-- endpoint along the index, so that a million rows of one endpoint cost as much as one.
with recursive lane as (
  select wanted.shard, first.endpoint_id, first.due_at
  from unnest($1::smallint[]) as wanted (shard)
  cross join lateral (
    select deliveries.endpoint_id, deliveries.due_at
    from dispatcher.deliveries
    where (deliveries.shard, deliveries.endpoint_id) >= (wanted.shard, uuid '00000000-0000-0000-0000-000000000000')
      and (deliveries.shard, deliveries.endpoint_id) <= (wanted.shard, uuid 'ffffffff-ffff-ffff-ffff-ffffffffffff')
    order by deliveries.shard, deliveries.endpoint_id, deliveries.due_at
    limit 1
  ) as first
  union all
  select lane.shard, next.endpoint_id, next.due_at
  from lane
  cross join lateral (
    select deliveries.endpoint_id, deliveries.due_at
    from dispatcher.deliveries
    where (deliveries.shard, deliveries.endpoint_id) > (lane.shard, lane.endpoint_id)
      and (deliveries.shard, deliveries.endpoint_id) <= (lane.shard, uuid 'ffffffff-ffff-ffff-ffff-ffffffffffff')
    order by deliveries.shard, deliveries.endpoint_id, deliveries.due_at
    limit 1
  ) as next
)
select lane.shard, lane.endpoint_id, extract(epoch from lane.due_at)::float8 as due_at
from lane
where lane.due_at < 'infinity';

-- name: prefer_keys
-- Let no plan read a table from end to end, until the transaction ends.
set local enable_seqscan = off;

-- name: record
-- Write down what came of attempts, whole or not at all. $1 ids, $2 shards, $3 attempt numbers, $4 verdicts (done, retry,
-- give_up), $5 retry delays in seconds, $6 death reasons, $7 how long ago the attempt began in seconds, $8 milliseconds,
-- $9 outcomes, $10 statuses, $11 errors, $12 addresses, $13 response headers, $14 response bodies, $15 cut, $16 now,
-- $17 request heads, $18 request body sizes and $19 their SHA-256, $20 fingerprints of signing keys, $21 true sizes of
-- response bodies, $22 connection reused, $23 to $26 milliseconds of look-up, connect, TLS and first byte, $27 worker.
-- The guard is the attempt number: a late or repeated result changes nothing and returns no row.
-- `= any (array[…])` says `=` so that, after prefer_keys, only a look-up by key can answer it: with `=` a planner who takes
-- the table for empty, as vacuum found it before a burst, walks a whole index and compares each row with each result.
with result as materialized (
  select *
  from unnest(
    $1::bigint[], $2::smallint[], $3::smallint[], $4::text[], $5::float8[], $6::text[], $7::float8[], $8::integer[],
    $9::text[], $10::smallint[], $11::text[], $12::text[], $13::text[], $14::bytea[], $15::boolean[],
    $17::text[], $18::integer[], $19::bytea[], $20::text[], $21::bigint[], $22::boolean[],
    $23::real[], $24::real[], $25::real[], $26::real[]
  ) as result (
    id, shard, number, verdict, delay, reason, age, milliseconds,
    outcome, status, error, address, response_headers, response_body, response_cut,
    request_head, request_size, request_sha256, signed_with, response_size, reused,
    lookup_milliseconds, connect_milliseconds, tls_milliseconds, first_byte_milliseconds
  )
), removed as (
  delete from dispatcher.deliveries
  using result
  where deliveries.id = any (array[result.id])
    and deliveries.shard = any (array[result.shard])
    and deliveries.attempts = result.number - 1
    and result.verdict <> 'retry'
  returning deliveries.endpoint_id, deliveries.event_id, deliveries.event_at, deliveries.created_at,
    deliveries.manual, deliveries.ordering_key, result.*
), moved as (
  update dispatcher.deliveries
  set
    attempts = result.number,
    due_at = coalesce($16, now()) + make_interval(secs => result.delay)
  from result
  where deliveries.id = any (array[result.id])
    and deliveries.shard = any (array[result.shard])
    and deliveries.attempts = result.number - 1
    and result.verdict = 'retry'
  returning deliveries.endpoint_id, deliveries.event_id, deliveries.due_at, result.*
), history as (
  insert into dispatcher.finished_deliveries
    (id, endpoint_id, event_id, event_at, created_at, finished_at, shard, attempts, manual, state, reason, status, error)
  select
    removed.id, removed.endpoint_id, removed.event_id, removed.event_at, removed.created_at, coalesce($16, now()),
    removed.shard, removed.number, removed.manual,
    case removed.verdict when 'done' then 'delivered' else 'dead' end,
    removed.reason, removed.status, removed.error
  from removed
), log as (
  insert into dispatcher.attempts
    (delivery_id, endpoint_id, event_id, started_at, milliseconds, number, shard, outcome, status, verdict, error,
     address, next_attempt_at, response_headers, response_body, response_cut, request_head, request_size, request_sha256,
     signed_with, response_size, reused, lookup_milliseconds, connect_milliseconds, tls_milliseconds,
     first_byte_milliseconds, worker)
  select
    made.id, made.endpoint_id, made.event_id, coalesce($16, now()) - make_interval(secs => made.age),
    made.milliseconds, made.number, made.shard, made.outcome, made.status, made.verdict, made.error,
    made.address, made.due_at, made.response_headers, made.response_body, made.response_cut, made.request_head,
    made.request_size, made.request_sha256, made.signed_with, made.response_size, made.reused,
    made.lookup_milliseconds, made.connect_milliseconds, made.tls_milliseconds, made.first_byte_milliseconds, $27
  from (
    select
      id, endpoint_id, event_id, age, milliseconds, number, shard, outcome, status, verdict, error,
      address, null::timestamptz as due_at, response_headers, response_body, response_cut,
      request_head, request_size, request_sha256, signed_with, response_size, reused,
      lookup_milliseconds, connect_milliseconds, tls_milliseconds, first_byte_milliseconds
    from removed
    union all
    select
      id, endpoint_id, event_id, age, milliseconds, number, shard, outcome, status, verdict, error,
      address, due_at, response_headers, response_body, response_cut,
      request_head, request_size, request_sha256, signed_with, response_size, reused,
      lookup_milliseconds, connect_milliseconds, tls_milliseconds, first_byte_milliseconds
    from moved
  ) as made
)
select id, null::float8 as due_at from removed
union all
select id, extract(epoch from due_at)::float8 from moved;

-- name: promote
-- Make the next of each ordering key due, now that the one before it is gone: $1 endpoints, $2 keys, $3 now. Under
-- lock_ordering, in a statement of its own: it must see the deletion.
update dispatcher.deliveries
set due_at = greatest(coalesce($3, now()), deliveries.deliver_at)
from unnest($1::uuid[], $2::text[]) as freed (endpoint_id, ordering_key)
cross join lateral (
  select waiting.id, waiting.shard
  from dispatcher.deliveries as waiting
  where waiting.endpoint_id = freed.endpoint_id
    and waiting.ordering_key = freed.ordering_key
  order by waiting.id
  limit 1
) as next
where deliveries.id = any (array[next.id]) -- as in record
  and deliveries.shard = any (array[next.shard])
  and deliveries.due_at = 'infinity'
returning
  deliveries.endpoint_id,
  extract(epoch from deliveries.due_at)::float8 as due_at;

-- name: ordering_keys_of
-- The ordering keys of some pending deliveries: $1 ids.
select distinct deliveries.endpoint_id, deliveries.ordering_key, deliveries.shard
from dispatcher.deliveries
where deliveries.id = any ($1::bigint[])
  and deliveries.ordering_key is not null;

-- name: orphaned_ordering_keys
-- Ordering keys of some shards whose first delivery waits though nothing is before it: $1 shards, $2 at most so many.
-- Jumps from key to key along the index.
with recursive lane as (
  select distinct deliveries.endpoint_id
  from dispatcher.deliveries
  where deliveries.shard = any ($1::smallint[])
    and deliveries.due_at = 'infinity'
), head as (
  select lane.endpoint_id, first.ordering_key, first.due_at
  from lane
  cross join lateral (
    select deliveries.ordering_key, deliveries.due_at
    from dispatcher.deliveries
    where deliveries.endpoint_id = lane.endpoint_id
      and deliveries.ordering_key is not null
    order by deliveries.ordering_key, deliveries.id
    limit 1
  ) as first
  union all
  select head.endpoint_id, next.ordering_key, next.due_at
  from head
  cross join lateral (
    select deliveries.ordering_key, deliveries.due_at
    from dispatcher.deliveries
    where deliveries.endpoint_id = head.endpoint_id
      and deliveries.ordering_key > head.ordering_key
    order by deliveries.ordering_key, deliveries.id
    limit 1
  ) as next
)
select head.endpoint_id, head.ordering_key
from head
where head.due_at = 'infinity'
limit $2;

-- name: kill_ended
-- End pending deliveries of endpoints that get none any more: $1 shards, $2 endpoints, $3 whether each is archived (its
-- deliveries are cancelled) or disabled (they die), $4 at most so many an endpoint, $5 not these (their requests are in
-- flight), $6 now. Returns how many there were of each endpoint.
with lane as materialized (
  select *
  from unnest($1::smallint[], $2::uuid[], $3::boolean[]) as lane (shard, endpoint_id, archived)
), removed as (
  delete from dispatcher.deliveries
  where deliveries.ctid = any (array(
    select doomed.ctid
    from lane
    cross join lateral (
      select candidate.ctid
      from dispatcher.deliveries as candidate
      where (candidate.shard, candidate.endpoint_id) >= (lane.shard, lane.endpoint_id)
        and (candidate.shard, candidate.endpoint_id) <= (lane.shard, lane.endpoint_id)
        and candidate.id <> all ($5::bigint[])
      order by candidate.shard, candidate.endpoint_id, candidate.due_at, candidate.id
      limit $4
      for update skip locked
    ) as doomed
  ))
  returning deliveries.*
), history as (
  insert into dispatcher.finished_deliveries
    (id, endpoint_id, event_id, event_at, created_at, finished_at, shard, attempts, manual, state, reason, status, error)
  select
    removed.id, removed.endpoint_id, removed.event_id, removed.event_at, removed.created_at, coalesce($6, now()),
    removed.shard, removed.attempts, removed.manual,
    case when lane.archived then 'cancelled' else 'dead' end,
    case when lane.archived then 'endpoint_archived' else 'endpoint_disabled' end,
    null, null
  from removed
  join lane on lane.endpoint_id = removed.endpoint_id
)
select removed.endpoint_id, count(*) as count
from removed
group by removed.endpoint_id;

-- name: kill_expired
-- End pending deliveries of some shards whose event has expired: $1 shards, $2 at most so many, $3 not these, $4 now.
with removed as (
  delete from dispatcher.deliveries
  where deliveries.ctid = any (array(
    select late.ctid
    from dispatcher.deliveries as late
    where late.expires_at <= coalesce($4, now())
      and late.shard + 0 = any ($1::smallint[]) -- a sum, so that no other index than the one by expiry is thought of
      and late.id <> all ($3::bigint[])
    order by late.expires_at
    limit $2
    for update skip locked
  ))
  returning deliveries.*
), history as (
  insert into dispatcher.finished_deliveries
    (id, endpoint_id, event_id, event_at, created_at, finished_at, shard, attempts, manual, state, reason, status, error)
  select
    id, endpoint_id, event_id, event_at, created_at, coalesce($4, now()), shard, attempts, manual,
    'dead', 'expired', null, null
  from removed
)
select
  removed.id, removed.endpoint_id, removed.event_id, removed.attempts, removed.manual,
  removed.manual and not removed.notify as silent, removed.ordering_key, removed.shard,
  event.event_type
from removed
left join lateral (
  select outbox.event_type
  from dispatcher.outbox
  where outbox.id = removed.event_id
    and outbox.inserted_at = removed.event_at
  limit 1
) as event on true;

-- name: kill_overdue
-- End deliveries of failing endpoints that have waited for longer than their schedule's span, counted from the later of
-- their start and the endpoint's first failure: $1 shards, $2 endpoints, $3 spans in seconds, $4 at most so many an
-- endpoint, $5 not these, $6 now. Looks at the oldest due only; the rest comes up later.
with removed as (
  delete from dispatcher.deliveries
  where deliveries.ctid = any (array(
    select oldest.ctid
    from unnest($1::smallint[], $2::uuid[], $3::float8[]) as lane (shard, endpoint_id, span)
    join dispatcher.endpoint_health on endpoint_health.endpoint_id = lane.endpoint_id
    cross join lateral (
      select candidate.ctid, candidate.id, candidate.created_at, candidate.deliver_at
      from dispatcher.deliveries as candidate
      where (candidate.shard, candidate.endpoint_id) >= (lane.shard, lane.endpoint_id)
        and (candidate.shard, candidate.endpoint_id, candidate.due_at)
          <= (lane.shard, lane.endpoint_id, coalesce($6, now()))
      order by candidate.shard, candidate.endpoint_id, candidate.due_at, candidate.id
      limit $4
      for update skip locked
    ) as oldest
    where oldest.id <> all ($5::bigint[])
      and greatest(oldest.created_at, oldest.deliver_at, endpoint_health.failing_since)
        <= coalesce($6, now()) - make_interval(secs => lane.span)
  ))
  returning deliveries.*
), history as (
  insert into dispatcher.finished_deliveries
    (id, endpoint_id, event_id, event_at, created_at, finished_at, shard, attempts, manual, state, reason, status, error)
  select
    id, endpoint_id, event_id, event_at, created_at, coalesce($6, now()), shard, attempts, manual,
    'dead', 'unavailable', null, null
  from removed
)
select
  removed.id, removed.endpoint_id, removed.event_id, removed.attempts, removed.manual,
  removed.manual and not removed.notify as silent, removed.ordering_key, removed.shard,
  event.event_type
from removed
left join lateral (
  select outbox.event_type
  from dispatcher.outbox
  where outbox.id = removed.event_id
    and outbox.inserted_at = removed.event_at
  limit 1
) as event on true;

-- name: first_attempts
-- When some deliveries were first tried, for their notices: $1 ids.
select
  attempts.delivery_id,
  extract(epoch from min(attempts.started_at))::float8 as started_at
from dispatcher.attempts
where attempts.delivery_id = any ($1::bigint[])
group by attempts.delivery_id;

-- name: count_due
-- How many deliveries are due in some lanes: $1 shards, $2 endpoints, $3 stop counting at so many a lane.
select coalesce(sum(lane_count.due), 0)::bigint
from unnest($1::smallint[], $2::uuid[]) as lane (shard, endpoint_id)
cross join lateral (
  select count(*) as due
  from (
    select
    from dispatcher.deliveries
    where (deliveries.shard, deliveries.endpoint_id) >= (lane.shard, lane.endpoint_id)
      and (deliveries.shard, deliveries.endpoint_id, deliveries.due_at) <= (lane.shard, lane.endpoint_id, now())
    order by deliveries.shard, deliveries.endpoint_id, deliveries.due_at
    limit $3
  ) as counted
) as lane_count;
