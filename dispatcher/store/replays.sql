-- name: insert
-- Create a replay: $1 endpoint, $2 states, $3 since, $4 until, $5 patterns, $6 causes, $7 rate, $8 how many are expected,
-- $9 now, $10 whether that is exact. It begins at the first delivery that can have ended after `since`.
insert into dispatcher.replays
  (endpoint_id, shard, states, since, until, patterns, causes, rate, created_at, read_at, next_at, expected, expected_exact)
select
  endpoints.id, endpoints.shard, $2, $3, $4, $5, $6, $7,
  coalesce($9, now()), coalesce($3, timestamptz '-infinity'), coalesce($9, now()), $8, $10
from dispatcher.endpoints
where endpoints.id = $1
returning replays.id;

-- name: prefer_keys
-- Let no plan read a table from end to end, until the transaction ends: what the planner believes of it may be long past.
set local enable_seqscan = off;

-- name: page
-- Finished deliveries of an endpoint in the order in which they ended, and what becomes of each in a replay: $1 endpoint,
-- $2 states, $3 and $4 behind this finished_at and id, $5 ended until (null: by now), $6 at most so many, $7 of events inserted since or
-- null, $8 before or null, $9 patterns or null, $10 causes or null, $11 now. `fate` is null for what the filters leave out.
-- They are applied to what was read, so that the work is bounded however little of it they let through.
select
  ended.id,
  ended.finished_at,
  ended.event_id,
  ended.event_at,
  event.ordering_key is not null as ordered,
  case
    when ended.event_at < $7
      or ended.event_at >= $8
      or not dispatcher.patterns_of(event.event_type) && $9
      or not array[
        split_part(ended.error, ':', 1), ended.status::text, left(ended.status::text, 1) || 'xx', ended.reason
      ] && $10 then null
    when event.id is null then 'past_retention'
    -- scalars, which are looked up row by row; `exists` could be answered by reading a table from end to end first
    when (
        select true
        from dispatcher.deliveries
        where deliveries.event_id = ended.event_id
          and deliveries.endpoint_id::text = $1::uuid::text -- so written that only the index by event comes into question
        limit 1
      )
      or (
        select true
        from dispatcher.finished_deliveries as later
        where later.event_id = ended.event_id
          and later.endpoint_id::text = $1::uuid::text
          and later.finished_at >= ended.finished_at
          and later.id + 0 > ended.id
        limit 1
      ) then 'superseded'
    when event.expires_at <= coalesce($11, now()) then 'expired'
    else 'replayed'
  end as fate
from (
  select *
  from (
    select picked.*
    from unnest($2::text[]) as wanted (state)
    cross join lateral (
      select *
      from dispatcher.finished_deliveries as finished
      where finished.endpoint_id = $1
        and finished.state = wanted.state
        and finished.state <> 'delivered'
        and finished.finished_at >= $3
        and (finished.finished_at, finished.id) > ($3, $4)
        and finished.finished_at <= coalesce($5, $11, now())
      order by finished.finished_at, finished.id
      limit $6
    ) as picked
    union all
    (
      select *
      from dispatcher.finished_deliveries as finished
      where finished.endpoint_id = $1
        and finished.state = 'delivered'
        and 'delivered' = any ($2)
        and finished.finished_at >= $3
        and (finished.finished_at, finished.id) > ($3, $4)
        and finished.finished_at <= coalesce($5, $11, now())
      order by finished.finished_at, finished.id
      limit $6
    )
  ) as either
  order by either.finished_at, either.id
  limit $6
) as ended
left join lateral (
  select *
  from dispatcher.outbox
  where outbox.id = ended.event_id
    and outbox.inserted_at = ended.event_at
  limit 1
) as event on true
order by ended.finished_at, ended.id;

-- name: soonest
-- When the next batch of a replay of some shards is due, seconds from now (negative: since): $1 shards, $2 now. Null if
-- none runs. Of each endpoint's the first counts: the others wait for it.
select extract(epoch from min(first.next_at) - coalesce($2, now()))::float8
from (
  select distinct on (replays.endpoint_id) replays.next_at
  from dispatcher.replays
  where replays.state = 'running'
    and replays.shard = any ($1::smallint[])
  order by replays.endpoint_id, replays.id
) as first;

-- name: claim
-- A replay of some shards that may go on, locked until the transaction ends, with the state of its endpoint: $1 shards,
-- $2 now. Those of one endpoint come one after the other, so that what two of them match is not sent twice.
select
  replays.*,
  endpoints.state as endpoint_state,
  endpoints.archived_at is not null as archived
from dispatcher.replays
join dispatcher.endpoints on endpoints.id = replays.endpoint_id
where replays.state = 'running'
  and replays.shard = any ($1::smallint[])
  and replays.next_at <= coalesce($2, now())
  and not exists (
    select
    from dispatcher.replays as earlier
    where earlier.state = 'running'
      and earlier.shard = replays.shard
      and earlier.endpoint_id = replays.endpoint_id
      and earlier.id < replays.id
  )
order by replays.next_at
limit 1
for update of replays skip locked;

-- name: make
-- Make pending deliveries of events for an endpoint: $1 endpoint, $2 events, $3 their inserted_at, $4 now. Of those with
-- one ordering key only the first is due, and only if none is pending; they need lock_ordering. Returns when each is due.
insert into dispatcher.deliveries
  (endpoint_id, event_id, event_at, created_at, due_at, expires_at, deliver_at, ordering_key, shard)
select
  endpoints.id,
  event.id,
  event.inserted_at,
  coalesce($4, now()),
  case
    when event.ordering_key is not null and (
      row_number() over (partition by event.ordering_key order by chosen.event_at, chosen.event_id) > 1
      or exists (
        select from dispatcher.deliveries as earlier
        where earlier.endpoint_id = endpoints.id
          and earlier.ordering_key = event.ordering_key
      )
    ) then 'infinity'
    else greatest(coalesce($4, now()), event.deliver_at)
  end,
  event.expires_at,
  event.deliver_at,
  event.ordering_key,
  endpoints.shard
from unnest($2::uuid[], $3::timestamptz[]) as chosen (event_id, event_at)
cross join lateral (
  select *
  from dispatcher.outbox
  where outbox.id = chosen.event_id
    and outbox.inserted_at = chosen.event_at
  limit 1
) as event
join dispatcher.endpoints on endpoints.id = $1
order by chosen.event_at, chosen.event_id
returning extract(epoch from deliveries.due_at)::float8 as due_at;

-- name: advance
-- Write down how far a replay has come: $1 id, $2 and $3 where it stands, $4 replayed, $5 past retention, $6 expired,
-- $7 superseded, $8 seconds that this takes of its rate, $9 seconds that it may have fallen behind it, $10 whether it is
-- done, $11 now.
update dispatcher.replays
set
  read_at = $2,
  read_id = $3,
  replayed = replays.replayed + $4,
  past_retention = replays.past_retention + $5,
  expired = replays.expired + $6,
  superseded = replays.superseded + $7,
  next_at = greatest(replays.next_at, coalesce($11, now()) - make_interval(secs => $9)) + make_interval(secs => $8),
  state = case when $10 then 'done' else replays.state end,
  finished_at = case when $10 then coalesce($11, now()) end
where replays.id = $1;

-- name: postpone
-- Let a replay rest: $1 id, $2 seconds, $3 now.
update dispatcher.replays
set next_at = coalesce($3, now()) + make_interval(secs => $2)
where replays.id = $1;

-- name: cancel
-- End a replay that runs: $1 id, $2 reason, $3 now. Returns it if it ran.
update dispatcher.replays
set state = 'cancelled', reason = $2, finished_at = coalesce($3, now())
where replays.id = $1
  and replays.state = 'running'
returning replays.id;

-- name: one
-- A replay with its endpoint's tenant: $1 id.
select replays.*, endpoints.tenant
from dispatcher.replays
join dispatcher.endpoints on endpoints.id = replays.endpoint_id
where replays.id = $1;

-- name: several
-- Replays, the latest first: $1 endpoint or null, $2 tenant or null, $3 at most so many.
select replays.*, endpoints.tenant
from dispatcher.replays
join dispatcher.endpoints on endpoints.id = replays.endpoint_id
where (replays.endpoint_id = $1 or $1 is null)
  and (endpoints.tenant = $2 or $2 is null)
order by replays.id desc
limit $3;

-- name: listed
-- Replays with their endpoints' URLs, the latest first: $1 with an id below this one, $2 endpoint or null, $3 tenant or null,
-- $4 state or null, $5 at most so many. A walk by id: replays are made by people, and are few.
select replays.*, endpoints.tenant, endpoints.url
from dispatcher.replays
join dispatcher.endpoints on endpoints.id = replays.endpoint_id
where replays.id < $1
  and ($2::uuid is null or replays.endpoint_id = $2)
  and ($3::text is null or endpoints.tenant = $3)
  and ($4::text is null or replays.state = $4)
order by replays.id desc
limit $5;

-- name: forget
-- Drop replays that ended long ago: $1 seconds, $2 at most so many, $3 now.
delete from dispatcher.replays
where replays.id = any (array(
  select old.id
  from dispatcher.replays as old
  where old.finished_at < coalesce($3, now()) - make_interval(secs => $1)
  limit $2
));
