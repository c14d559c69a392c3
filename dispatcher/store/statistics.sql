-- name: write
-- Add what a worker has counted in one minute to the minute and to its quarter of an hour, and say what the worker does
-- now: $1 worker, $2 start of the minute (unix seconds), $3 to $8 attempts (2xx, 3xx, 4xx, 5xx, unreachable, blocked),
-- $9 delivered, $10 dead, $11 cancelled, $12 latencies, and, null for a minute that is over, $13 due deliveries,
-- $14 seconds for which the oldest has been, $15 requests in flight, $16 deliveries and $17 endpoints in memory.
with here as (
  update dispatcher.workers
  set
    due = $13,
    oldest_due_seconds = $14,
    in_flight = $15,
    held = $16,
    lanes = $17
  where workers.id = $1
    and $13::bigint is not null
), elsewhere as (
  select
    coalesce(sum(workers.due), 0) as due,
    coalesce(max(workers.oldest_due_seconds), 0) as oldest_due_seconds,
    coalesce(sum(workers.in_flight), 0) as in_flight
  from dispatcher.workers
  where workers.id <> $1
    and workers.expires_at > clock_timestamp()
)
insert into dispatcher.service_statistics as known (
  resolution, start_at,
  answered_2xx, answered_3xx, answered_4xx, answered_5xx, unreachable, blocked,
  delivered, dead, cancelled, latencies, due, oldest_due_seconds, in_flight
)
select
  step.resolution,
  to_timestamp($2::bigint - $2::bigint % step.resolution),
  $3, $4, $5, $6, $7, $8,
  $9, $10, $11, $12::integer[],
  elsewhere.due + $13::bigint,
  case when $14::float8 is not null then greatest(elsewhere.oldest_due_seconds, $14::float8) end,
  elsewhere.in_flight + $15::integer
from elsewhere
cross join (values (60), (900)) as step (resolution)
order by step.resolution
on conflict (resolution, start_at) do update
set
  answered_2xx = known.answered_2xx + excluded.answered_2xx,
  answered_3xx = known.answered_3xx + excluded.answered_3xx,
  answered_4xx = known.answered_4xx + excluded.answered_4xx,
  answered_5xx = known.answered_5xx + excluded.answered_5xx,
  unreachable = known.unreachable + excluded.unreachable,
  blocked = known.blocked + excluded.blocked,
  delivered = known.delivered + excluded.delivered,
  dead = known.dead + excluded.dead,
  cancelled = known.cancelled + excluded.cancelled,
  latencies = array(
    select coalesce(class.before, 0) + coalesce(class.more, 0)
    from unnest(known.latencies, excluded.latencies) with ordinality as class (before, more, place)
    order by class.place
  ),
  due = greatest(known.due, excluded.due),
  oldest_due_seconds = greatest(known.oldest_due_seconds, excluded.oldest_due_seconds),
  in_flight = greatest(known.in_flight, excluded.in_flight);

-- name: write_endpoints
-- Add to what came of endpoints' deliveries in quarters of an hour, and to the sums of their tenants: $1 endpoints,
-- $2 starts (unix seconds), $3 to $8 attempts (2xx, 3xx, 4xx, 5xx, unreachable, blocked), $9 dead. In order, so that two
-- such statements cannot deadlock.
with counted as materialized (
  select counted.endpoint_id, to_timestamp(counted.start) as start_at, counted.answered_2xx, counted.answered_3xx,
    counted.answered_4xx, counted.answered_5xx, counted.unreachable, counted.blocked, counted.dead
  from unnest(
    $1::uuid[], $2::bigint[], $3::integer[], $4::integer[], $5::integer[], $6::integer[], $7::integer[], $8::integer[],
    $9::integer[]
  ) as counted (
    endpoint_id, start, answered_2xx, answered_3xx, answered_4xx, answered_5xx, unreachable, blocked, dead
  )
), tenants as (
  insert into dispatcher.tenant_statistics as known (
    tenant, start_at, answered_2xx, answered_3xx, answered_4xx, answered_5xx, unreachable, blocked, dead
  )
  select
    endpoints.tenant, counted.start_at, sum(counted.answered_2xx), sum(counted.answered_3xx), sum(counted.answered_4xx),
    sum(counted.answered_5xx), sum(counted.unreachable), sum(counted.blocked), sum(counted.dead)
  from counted
  join dispatcher.endpoints on endpoints.id = counted.endpoint_id
  group by endpoints.tenant, counted.start_at
  order by endpoints.tenant, counted.start_at
  on conflict (tenant, start_at) do update
  set
    answered_2xx = known.answered_2xx + excluded.answered_2xx,
    answered_3xx = known.answered_3xx + excluded.answered_3xx,
    answered_4xx = known.answered_4xx + excluded.answered_4xx,
    answered_5xx = known.answered_5xx + excluded.answered_5xx,
    unreachable = known.unreachable + excluded.unreachable,
    blocked = known.blocked + excluded.blocked,
    dead = known.dead + excluded.dead
)
insert into dispatcher.endpoint_statistics as known (
  endpoint_id, start_at, answered_2xx, answered_3xx, answered_4xx, answered_5xx, unreachable, blocked, dead
)
select
  counted.endpoint_id, counted.start_at, counted.answered_2xx, counted.answered_3xx, counted.answered_4xx,
  counted.answered_5xx, counted.unreachable, counted.blocked, counted.dead
from counted
order by counted.endpoint_id, counted.start_at
on conflict (endpoint_id, start_at) do update
set
  answered_2xx = known.answered_2xx + excluded.answered_2xx,
  answered_3xx = known.answered_3xx + excluded.answered_3xx,
  answered_4xx = known.answered_4xx + excluded.answered_4xx,
  answered_5xx = known.answered_5xx + excluded.answered_5xx,
  unreachable = known.unreachable + excluded.unreachable,
  blocked = known.blocked + excluded.blocked,
  dead = known.dead + excluded.dead;

-- name: write_cancelled
-- Add deliveries that a person cancelled to the minute and the quarter of an hour: $1 how many, $2 classes of latency,
-- $3 now.
insert into dispatcher.service_statistics as known (
  resolution, start_at,
  answered_2xx, answered_3xx, answered_4xx, answered_5xx, unreachable, blocked,
  delivered, dead, cancelled, latencies
)
select
  step.resolution,
  date_bin(make_interval(secs => step.resolution), coalesce($3, now()), timestamptz 'epoch'),
  0, 0, 0, 0, 0, 0,
  0, 0, $1, array_fill(0, array[$2::integer])
from (values (60), (900)) as step (resolution)
order by step.resolution
on conflict (resolution, start_at) do update
set cancelled = known.cancelled + excluded.cancelled;

-- name: forget
-- Drop what is past its time: $1 seconds that minutes are kept, $2 seconds that quarters are, $3 now.
delete from dispatcher.service_statistics
where (service_statistics.resolution = 60 and service_statistics.start_at < coalesce($3, now()) - make_interval(secs => $1))
  or (service_statistics.resolution = 900 and service_statistics.start_at < coalesce($3, now()) - make_interval(secs => $2));
