-- name: read
-- Unread events of some shards, past each shard's cursor: $1 shards, $2 cursors (positions), $3 at most so many a shard,
-- $4 at most so many in all, the first shards first. Here and elsewhere a range of one shard or lane is written as a
-- comparison of rows: whatever the planner believes of a table that has just grown, it then walks the index in order and
-- stops at the limit, instead of fetching all of a shard to sort it.
select
  unread.shard,
  unread.position,
  unread.ordering_key is not null as ordered,
  event.id,
  event.tenant,
  event.event_type,
  event.payload,
  extract(epoch from event.occurred_at)::float8 as occurred_at,
  extract(epoch from event.inserted_at)::float8 as inserted_at
from unnest($1::smallint[], $2::bigint[]) as wanted (shard, cursor)
cross join lateral (
  select *
  from dispatcher.outbox_unread
  where (outbox_unread.shard, outbox_unread.position) > (wanted.shard, wanted.cursor)
    and (outbox_unread.shard, outbox_unread.position) <= (wanted.shard, 9223372036854775807)
  order by outbox_unread.shard, outbox_unread.position
  limit $3
) as unread
cross join lateral (
  select *
  from dispatcher.outbox
  where outbox.id = unread.event_id
    and outbox.inserted_at = unread.event_at
  limit 1 -- keeps the planner, who cannot know how few rows are unread, from reading the whole outbox into a hash
) as event
limit $4;

-- name: lock_ordering
-- Keep fan-out and recording of ordered deliveries of these shards apart until the transaction ends: $1 shards, sorted.
select pg_advisory_xact_lock(730204, shard) from unnest($1::integer[]) as shard;

-- name: fan_out
-- Turn unread events into pending deliveries: $1 shards, $2 positions, $3 now. An event that is no longer unread (a
-- worker that lost its lease came late) makes none. Returns the deliveries that are due at once or later. Who wants what
-- is asked once for all events of a tenant and type. `unjudged`: an endpoint has a filter, so that all must be undone.
with gone as (
  delete from dispatcher.outbox_unread
  where outbox_unread.ctid = any (array( -- no join: a planner who takes the table for empty would begin with all of it
    select found.ctid
    from unnest($1::smallint[], $2::bigint[]) as read (shard, position)
    cross join lateral (
      select outbox_unread.ctid
      from dispatcher.outbox_unread
      where outbox_unread.shard = read.shard
        and outbox_unread.position = read.position
      limit 1
    ) as found
  ))
  returning outbox_unread as event
), route as materialized (
  -- each part is fenced in: the planner cannot know how few kinds of events and how many endpoints there are, and must
  -- begin with the events
  select kind.events, wanted.endpoint_id, endpoint.shard, endpoint.filter
  from (
    select
      (gone.event).tenant,
      dispatcher.patterns_of((gone.event).event_type) as patterns,
      array_agg(gone.event) as events
    from gone
    group by (gone.event).tenant, (gone.event).event_type
  ) as kind
  cross join lateral (
    select subscriptions.endpoint_id
    from dispatcher.subscriptions
    where subscriptions.tenant = kind.tenant
      and subscriptions.pattern = any (kind.patterns)
    union
    select subscriptions.endpoint_id
    from dispatcher.tenants
    cross join lateral unnest(tenants.ancestors) as above (tenant)
    join dispatcher.subscriptions
      on subscriptions.tenant = above.tenant
      and subscriptions.pattern = any (kind.patterns)
      and subscriptions.include_descendants
    where tenants.name = kind.tenant
  ) as wanted
  cross join lateral (
    select endpoints.shard, endpoints.filter
    from dispatcher.endpoints
    where endpoints.id = wanted.endpoint_id
      and endpoints.state <> 'disabled'
      and endpoints.archived_at is null
    limit 1
  ) as endpoint
), matched as (
  insert into dispatcher.deliveries
    (endpoint_id, event_id, event_at, created_at, due_at, expires_at, deliver_at, shard)
  select
    route.endpoint_id,
    event.event_id,
    event.event_at,
    coalesce($3, now()),
    greatest(coalesce($3, now()), event.deliver_at),
    event.expires_at,
    event.deliver_at,
    route.shard
  from route
  cross join lateral unnest(route.events) as event
  order by event.position
  returning deliveries.id, deliveries.endpoint_id, deliveries.event_id, deliveries.due_at, deliveries.created_at,
    deliveries.expires_at, deliveries.shard
), unmatched as (
  insert into dispatcher.unmatched_events (event_id, event_at, tenant, recorded_at)
  select (gone.event).event_id, (gone.event).event_at, (gone.event).tenant, coalesce($3, now())
  from gone
  where (gone.event).event_id not in (select matched.event_id from matched)
)
select
  matched.id,
  matched.shard,
  matched.endpoint_id,
  matched.event_id,
  extract(epoch from matched.due_at)::float8 as due_at,
  extract(epoch from matched.created_at)::float8 as created_at,
  extract(epoch from matched.expires_at)::float8 as expires_at,
  (select exists (select from route where route.filter is not null)) as unjudged
from matched;

-- name: fan_out_ordered
-- The same for a batch that holds ordering keys, under lock_ordering: of an endpoint's deliveries with one key only the
-- first is due, the others wait (due_at infinity) for their turn. And for a batch in which endpoints have filters: $4
-- endpoints, $5 the filter by which each was judged; $6 endpoints and $7 events for which a filter did not say yes, $8
-- why it failed, null if it said no. `unjudged`: an endpoint has another filter by now.
with gone as (
  delete from dispatcher.outbox_unread
  where outbox_unread.ctid = any (array( -- no join: a planner who takes the table for empty would begin with all of it
    select found.ctid
    from unnest($1::smallint[], $2::bigint[]) as read (shard, position)
    cross join lateral (
      select outbox_unread.ctid
      from dispatcher.outbox_unread
      where outbox_unread.shard = read.shard
        and outbox_unread.position = read.position
      limit 1
    ) as found
  ))
  returning outbox_unread as event
), route as materialized (
  -- each part is fenced in: the planner cannot know how few kinds of events and how many endpoints there are, and must
  -- begin with the events
  select kind.events, wanted.endpoint_id, endpoint.shard, endpoint.filter
  from (
    select
      (gone.event).tenant,
      dispatcher.patterns_of((gone.event).event_type) as patterns,
      array_agg(gone.event) as events
    from gone
    group by (gone.event).tenant, (gone.event).event_type
  ) as kind
  cross join lateral (
    select subscriptions.endpoint_id
    from dispatcher.subscriptions
    where subscriptions.tenant = kind.tenant
      and subscriptions.pattern = any (kind.patterns)
    union
    select subscriptions.endpoint_id
    from dispatcher.tenants
    cross join lateral unnest(tenants.ancestors) as above (tenant)
    join dispatcher.subscriptions
      on subscriptions.tenant = above.tenant
      and subscriptions.pattern = any (kind.patterns)
      and subscriptions.include_descendants
    where tenants.name = kind.tenant
  ) as wanted
  cross join lateral (
    select endpoints.shard, endpoints.filter
    from dispatcher.endpoints
    where endpoints.id = wanted.endpoint_id
      and endpoints.state <> 'disabled'
      and endpoints.archived_at is null
    limit 1
  ) as endpoint
), decided as materialized (
  select *
  from unnest($6::uuid[], $7::uuid[], $8::text[]) as decided (endpoint_id, event_id, fault)
), unjudged as materialized (
  select exists (
    select from route
    where route.filter is not null
      and not exists (
        select from unnest($4::uuid[], $5::text[]) as judged (endpoint_id, filter)
        where judged.endpoint_id = route.endpoint_id
          and judged.filter = route.filter
      )
  ) as are_there
), matched as (
  insert into dispatcher.deliveries
    (endpoint_id, event_id, event_at, created_at, due_at, expires_at, deliver_at, ordering_key, shard)
  select
    route.endpoint_id,
    event.event_id,
    event.event_at,
    coalesce($3, now()),
    case
      when event.ordering_key is not null and (
        row_number() over (partition by route.endpoint_id, event.ordering_key order by event.position) > 1
        or exists (
          select from dispatcher.deliveries as earlier
          where earlier.endpoint_id = route.endpoint_id
            and earlier.ordering_key = event.ordering_key
        )
      ) then 'infinity'
      else greatest(coalesce($3, now()), event.deliver_at)
    end,
    event.expires_at,
    event.deliver_at,
    event.ordering_key,
    route.shard
  from route
  cross join lateral unnest(route.events) as event
  where not exists (
    select from decided
    where decided.endpoint_id = route.endpoint_id
      and decided.event_id = event.event_id
      and decided.fault is null
  )
  order by event.position
  returning deliveries.id, deliveries.endpoint_id, deliveries.event_id, deliveries.due_at, deliveries.created_at,
    deliveries.expires_at, deliveries.ordering_key, deliveries.shard
), filtered as (
  insert into dispatcher.filtered_events (event_id, event_at, endpoint_id, recorded_at, fault)
  select event.event_id, event.event_at, route.endpoint_id, coalesce($3, now()), decided.fault
  from route
  cross join lateral unnest(route.events) as event
  join decided on decided.endpoint_id = route.endpoint_id and decided.event_id = event.event_id
  on conflict do nothing -- read once more, after it had been refused
), unmatched as (
  insert into dispatcher.unmatched_events (event_id, event_at, tenant, recorded_at)
  select (gone.event).event_id, (gone.event).event_at, (gone.event).tenant, coalesce($3, now())
  from gone
  where (gone.event).event_id not in (select matched.event_id from matched)
)
select
  matched.id,
  matched.shard,
  matched.endpoint_id,
  matched.event_id,
  extract(epoch from matched.due_at)::float8 as due_at,
  extract(epoch from matched.created_at)::float8 as created_at,
  extract(epoch from matched.expires_at)::float8 as expires_at,
  matched.ordering_key is not null as ordered,
  unjudged.are_there as unjudged
from matched
cross join unjudged
where isfinite(matched.due_at)
  or unjudged.are_there;

-- name: filters
-- The filters of endpoints that are subscribed to some kinds of events: $1 tenants, $2 event types, pair by pair.
select kind.tenant, kind.event_type, wanted.endpoint_id, endpoint.filter
from unnest($1::text[], $2::text[]) as kind (tenant, event_type)
cross join lateral (
  select dispatcher.patterns_of(kind.event_type) as patterns
  offset 0 -- once for each kind, not for each row
) as known
cross join lateral (
  select subscriptions.endpoint_id
  from dispatcher.subscriptions
  where subscriptions.tenant = kind.tenant
    and subscriptions.pattern = any (known.patterns)
  union
  select subscriptions.endpoint_id
  from dispatcher.tenants
  cross join lateral unnest(tenants.ancestors) as above (tenant)
  join dispatcher.subscriptions
    on subscriptions.tenant = above.tenant
    and subscriptions.pattern = any (known.patterns)
    and subscriptions.include_descendants
  where tenants.name = kind.tenant
) as wanted
cross join lateral (
  select endpoints.filter
  from dispatcher.endpoints
  where endpoints.id = wanted.endpoint_id
    and endpoints.filter is not null
    and endpoints.state <> 'disabled'
    and endpoints.archived_at is null
  limit 1
) as endpoint;

-- name: fill_wakeups
-- Make the row that spaces out wake-ups; a crash empties the unlogged table.
insert into dispatcher.wakeups default values on conflict do nothing;

-- name: set_parameters
-- What the triggers need to know: $1 idempotency window, seconds; $2 notify at most every so many seconds, null never.
update dispatcher.parameters
set
  idempotency_window = make_interval(secs => $1),
  notify_every = make_interval(secs => $2)
where (idempotency_window, notify_every)
  is distinct from (make_interval(secs => $1), make_interval(secs => $2));

-- name: forget_idempotency_keys
-- Drop keys that are past the window, at most $1 of them.
delete from dispatcher.idempotency_keys
where ctid = any (array(
  select old.ctid
  from dispatcher.idempotency_keys as old
  where old.used_at <= now() - (select parameters.idempotency_window from dispatcher.parameters)
  order by old.used_at
  limit $1
));

-- name: oldest_unread
-- How many seconds the oldest unread event of these shards has waited, null if none waits: $1 shards.
select extract(epoch from clock_timestamp() - min(first.event_at))::float8
from unnest($1::smallint[]) as wanted (shard)
cross join lateral (
  select outbox_unread.event_at
  from dispatcher.outbox_unread
  where (outbox_unread.shard, outbox_unread.position) >= (wanted.shard, 0)
    and (outbox_unread.shard, outbox_unread.position) <= (wanted.shard, 9223372036854775807)
  order by outbox_unread.shard, outbox_unread.position
  limit 1
) as first;
