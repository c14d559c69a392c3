-- name: now
-- The instant: $1 overrides it.
select coalesce($1, now());

-- name: endpoints
-- How many endpoints there are, and how they do: $1 tenant or null.
select
  count(*)::integer as endpoints,
  count(*) filter (where endpoints.state = 'active' and endpoint_health.failing_since is not null)::integer as failing,
  count(*) filter (where endpoints.state = 'disabled')::integer as disabled,
  count(*) filter (where endpoints.state = 'paused')::integer as paused
from dispatcher.endpoints
left join dispatcher.endpoint_health on endpoint_health.endpoint_id = endpoints.id
where endpoints.archived_at is null
  and (endpoints.tenant = $1 or $1 is null);

-- name: workers
-- What the living workers do together.
select
  count(*)::integer as workers,
  sum(workers.due)::bigint as due,
  max(workers.oldest_due_seconds) as oldest_due_seconds,
  sum(workers.in_flight)::integer as in_flight
from dispatcher.workers
where workers.expires_at > clock_timestamp()
  and 'deliver' = any (workers.roles);

-- name: mails
-- How many mails are not sent yet, $1 at most, and for how many seconds the oldest of them has waited: $2 now.
select
  count(*)::integer as mails,
  coalesce(extract(epoch from coalesce($2, now()) - min(waiting.created_at)), 0)::float8 as seconds
from (
  select mails.created_at
  from dispatcher.mails
  where mails.sent_at is null
    and mails.given_up_at is null
  order by mails.due_at, mails.id
  limit $1
) as waiting;

-- name: due
-- How many deliveries are due at a tenant's active endpoints, $2 at most, and for how many seconds the oldest has been:
-- $1 tenant, $3 now.
with lane as (
  select endpoints.shard, endpoints.id
  from dispatcher.endpoints
  where endpoints.tenant = $1
    and endpoints.state = 'active'
    and endpoints.archived_at is null
)
select
  (
    select count(*)::integer
    from (
      select
      from lane
      cross join lateral (
        select
        from dispatcher.deliveries
        where (deliveries.shard, deliveries.endpoint_id) >= (lane.shard, lane.id)
          and (deliveries.shard, deliveries.endpoint_id, deliveries.due_at) <= (lane.shard, lane.id, coalesce($3, now()))
        order by deliveries.shard, deliveries.endpoint_id, deliveries.due_at
        limit $2
      ) as due
      limit $2
    ) as counted
  ) as due,
  coalesce((
    select extract(epoch from coalesce($3, now()) - min(oldest.due_at))
    from lane
    cross join lateral (
      select deliveries.due_at
      from dispatcher.deliveries
      where (deliveries.shard, deliveries.endpoint_id) >= (lane.shard, lane.id)
        and (deliveries.shard, deliveries.endpoint_id, deliveries.due_at) <= (lane.shard, lane.id, coalesce($3, now()))
      order by deliveries.shard, deliveries.endpoint_id, deliveries.due_at
      limit 1
    ) as oldest
  ), 0)::float8 as seconds;

-- name: service_series
-- The service's counters in steps: $1 resolution, $2 from and $3 before (instants), $4 seconds a step. Steps in which
-- nobody worked are left out. Latencies come as places (from 1) with attempts, those left out that hold none.
with picked as materialized (
  select date_bin(make_interval(secs => $4), service_statistics.start_at, timestamptz 'epoch') as at, service_statistics.*
  from dispatcher.service_statistics
  where service_statistics.resolution = $1
    and service_statistics.start_at >= $2
    and service_statistics.start_at < $3
), summed as (
  select
    picked.at,
    sum(picked.answered_2xx)::bigint as answered_2xx,
    sum(picked.answered_3xx)::bigint as answered_3xx,
    sum(picked.answered_4xx)::bigint as answered_4xx,
    sum(picked.answered_5xx)::bigint as answered_5xx,
    sum(picked.unreachable)::bigint as unreachable,
    sum(picked.blocked)::bigint as blocked,
    sum(picked.dead)::bigint as dead,
    sum(picked.cancelled)::bigint as cancelled,
    max(picked.due) as due,
    max(picked.oldest_due_seconds) as oldest_due_seconds,
    max(picked.in_flight) as in_flight
  from picked
  group by picked.at
), histogram as (
  select class.at, array_agg(class.place) as places, array_agg(class.attempts) as attempts
  from (
    select picked.at, class.place, sum(class.attempts)::bigint as attempts
    from picked
    cross join lateral unnest(picked.latencies) with ordinality as class (attempts, place)
    where class.attempts > 0
    group by picked.at, class.place
  ) as class
  group by class.at
)
select extract(epoch from summed.at)::bigint as start, summed.*, histogram.places, histogram.attempts
from summed
left join histogram on histogram.at = summed.at
order by summed.at;

-- name: endpoint_series
-- What came of an endpoint's deliveries in steps: $1 endpoint, $2 from and $3 before (instants), $4 seconds a step. Steps in
-- which nobody worked are left out; in others that it had no part in, all is 0.
with summed as (
  select
    date_bin(make_interval(secs => $4), endpoint_statistics.start_at, timestamptz 'epoch') as at,
    sum(endpoint_statistics.answered_2xx)::bigint as answered_2xx,
    sum(endpoint_statistics.answered_3xx)::bigint as answered_3xx,
    sum(endpoint_statistics.answered_4xx)::bigint as answered_4xx,
    sum(endpoint_statistics.answered_5xx)::bigint as answered_5xx,
    sum(endpoint_statistics.unreachable)::bigint as unreachable,
    sum(endpoint_statistics.blocked)::bigint as blocked,
    sum(endpoint_statistics.dead)::bigint as dead
  from dispatcher.endpoint_statistics
  where endpoint_statistics.endpoint_id = $1
    and endpoint_statistics.start_at >= $2
    and endpoint_statistics.start_at < $3
  group by 1
), worked as (
  select distinct date_bin(make_interval(secs => $4), service_statistics.start_at, timestamptz 'epoch') as at
  from dispatcher.service_statistics
  where service_statistics.resolution = 900
    and service_statistics.start_at >= $2
    and service_statistics.start_at < $3
)
select
  extract(epoch from coalesce(summed.at, worked.at))::bigint as start,
  coalesce(summed.answered_2xx, 0) as answered_2xx,
  coalesce(summed.answered_3xx, 0) as answered_3xx,
  coalesce(summed.answered_4xx, 0) as answered_4xx,
  coalesce(summed.answered_5xx, 0) as answered_5xx,
  coalesce(summed.unreachable, 0) as unreachable,
  coalesce(summed.blocked, 0) as blocked,
  coalesce(summed.dead, 0) as dead
from worked
full join summed on summed.at = worked.at
order by 1;

-- name: tenant_series
-- The same of a tenant's deliveries: $1 tenant.
with summed as (
  select
    date_bin(make_interval(secs => $4), tenant_statistics.start_at, timestamptz 'epoch') as at,
    sum(tenant_statistics.answered_2xx)::bigint as answered_2xx,
    sum(tenant_statistics.answered_3xx)::bigint as answered_3xx,
    sum(tenant_statistics.answered_4xx)::bigint as answered_4xx,
    sum(tenant_statistics.answered_5xx)::bigint as answered_5xx,
    sum(tenant_statistics.unreachable)::bigint as unreachable,
    sum(tenant_statistics.blocked)::bigint as blocked,
    sum(tenant_statistics.dead)::bigint as dead
  from dispatcher.tenant_statistics
  where tenant_statistics.tenant = $1
    and tenant_statistics.start_at >= $2
    and tenant_statistics.start_at < $3
  group by 1
), worked as (
  select distinct date_bin(make_interval(secs => $4), service_statistics.start_at, timestamptz 'epoch') as at
  from dispatcher.service_statistics
  where service_statistics.resolution = 900
    and service_statistics.start_at >= $2
    and service_statistics.start_at < $3
)
select
  extract(epoch from coalesce(summed.at, worked.at))::bigint as start,
  coalesce(summed.answered_2xx, 0) as answered_2xx,
  coalesce(summed.answered_3xx, 0) as answered_3xx,
  coalesce(summed.answered_4xx, 0) as answered_4xx,
  coalesce(summed.answered_5xx, 0) as answered_5xx,
  coalesce(summed.unreachable, 0) as unreachable,
  coalesce(summed.blocked, 0) as blocked,
  coalesce(summed.dead, 0) as dead
from worked
full join summed on summed.at = worked.at
order by 1;

-- name: place
-- The endpoint behind which a page's search ends, so many further on: $1 behind this id, $2 tenant or null, $3 how many.
-- No row: there are fewer.
select endpoints.id
from dispatcher.endpoints
where endpoints.id < $1
  and (endpoints.tenant = $2 or $2 is null)
order by endpoints.id desc
offset $3
limit 1;

-- name: find
-- Endpoints, the newest first: $1 behind this id, $2 down to this one, $3 tenant or null, $4 state (archived is one) or
-- null for all but archived ones, $5 failing, not failing, or null, $6 a part of URL, tenant or description, or the start of
-- an id, in lower case, or null, $7 at most so many.
select endpoints.id, endpoints.shard
from dispatcher.endpoints
left join dispatcher.endpoint_health on endpoint_health.endpoint_id = endpoints.id
where endpoints.id < $1
  and endpoints.id >= $2
  and (endpoints.tenant = $3 or $3 is null)
  and case $4::text
    when 'archived' then endpoints.archived_at is not null
    else endpoints.archived_at is null and (endpoints.state = $4 or $4 is null)
  end
  and (
    $5::boolean is null
    or (endpoints.state = 'active' and endpoint_health.failing_since is not null) = $5
  )
  and (
    $6::text is null
    or position($6 in lower(endpoints.url)) > 0
    or position($6 in lower(endpoints.tenant)) > 0
    or position($6 in lower(endpoints.description)) > 0
    or starts_with(endpoints.id::text, $6)
  )
order by endpoints.id desc
limit $7;

-- name: hours
-- What came of some endpoints' deliveries, by the hour: $1 endpoints, $2 from and $3 before (instants).
select
  endpoint_statistics.endpoint_id,
  extract(epoch from date_bin(interval '1 hour', endpoint_statistics.start_at, timestamptz 'epoch'))::bigint as start,
  sum(endpoint_statistics.answered_2xx)::bigint as ok,
  sum(
    endpoint_statistics.answered_3xx + endpoint_statistics.answered_4xx + endpoint_statistics.answered_5xx
    + endpoint_statistics.unreachable + endpoint_statistics.blocked
  )::bigint as failed,
  sum(endpoint_statistics.dead)::bigint as dead
from dispatcher.endpoint_statistics
where endpoint_statistics.endpoint_id = any ($1::uuid[])
  and endpoint_statistics.start_at >= $2
  and endpoint_statistics.start_at < $3
group by 1, 2;

-- name: waiting
-- How many deliveries of some endpoints wait, and when the first is due: $1 endpoints, $2 their shards, $3 at most so many
-- are counted of each. The ranges of one value, here and in `due`, keep to the index in its order: a planner who sees one
-- endpoint with nearly all that waits thinks that any row will do.
select
  lane.endpoint_id,
  (
    select count(*)::integer
    from (
      select
      from dispatcher.deliveries
      where (deliveries.shard, deliveries.endpoint_id) >= (lane.shard, lane.endpoint_id)
        and (deliveries.shard, deliveries.endpoint_id) <= (lane.shard, lane.endpoint_id)
      order by deliveries.shard, deliveries.endpoint_id, deliveries.due_at
      limit $3
    ) as counted
  ) as pending,
  (
    select nullif(deliveries.due_at, 'infinity')
    from dispatcher.deliveries
    where (deliveries.shard, deliveries.endpoint_id) >= (lane.shard, lane.endpoint_id)
      and (deliveries.shard, deliveries.endpoint_id) <= (lane.shard, lane.endpoint_id)
    order by deliveries.shard, deliveries.endpoint_id, deliveries.due_at
    limit 1
  ) as first_due_at
from unnest($1::uuid[], $2::smallint[]) as lane (endpoint_id, shard);
