-- name: renew
-- Beat: say that this worker lives, and renew what it holds. $1 worker, $2 lease in seconds, $3 shards, $4 their epochs.
-- Returns the shards that are still its own.
with beat as (
  update dispatcher.workers
  set
    seen_at = clock_timestamp(),
    expires_at = clock_timestamp() + make_interval(secs => $2)
  where workers.id = $1
)
update dispatcher.shard_leases
set expires_at = clock_timestamp() + make_interval(secs => $2)
from unnest($3::smallint[], $4::bigint[]) as held (shard, epoch)
where shard_leases.shard = held.shard
  and shard_leases.epoch = held.epoch
  and shard_leases.owner = $1
returning shard_leases.shard;

-- name: enrol
-- Make the worker known, again if it was forgotten: $1 worker, $2 host, $3 pid, $4 roles, $5 release, $6 lease in seconds.
insert into dispatcher.workers (id, host, pid, roles, release, started_at, seen_at, expires_at)
values (
  $1, $2, $3, $4, $5, clock_timestamp(), clock_timestamp(), clock_timestamp() + make_interval(secs => $6)
)
on conflict (id) do nothing;

-- name: census
-- How many workers deliver, and the database's clock: $1 the role that owns shards.
select
  count(*) filter (where workers.expires_at > clock_timestamp() and $1 = any (workers.roles))::integer as workers,
  extract(epoch from clock_timestamp())::float8 as now
from dispatcher.workers;

-- name: acquire
-- Take free or expired shards: $1 worker, $2 lease in seconds, $3 at most so many. The epoch counts the owners.
with free as (
  select shard_leases.shard
  from dispatcher.shard_leases
  where shard_leases.expires_at < clock_timestamp()
  order by random()
  limit $3
  for update skip locked
)
update dispatcher.shard_leases
set
  owner = $1,
  epoch = shard_leases.epoch + 1,
  expires_at = clock_timestamp() + make_interval(secs => $2)
from free
where shard_leases.shard = free.shard
returning shard_leases.shard, shard_leases.epoch;

-- name: release
-- Give shards back: $1 worker, $2 shards.
update dispatcher.shard_leases
set
  owner = null,
  expires_at = '-infinity'
where shard_leases.owner = $1
  and shard_leases.shard = any ($2::smallint[]);

-- name: leave
-- Forget the worker: $1.
delete from dispatcher.workers where workers.id = $1;

-- name: forget_dead_workers
-- Forget workers that have not been seen for a day.
delete from dispatcher.workers where workers.expires_at < clock_timestamp() - interval '1 day';
