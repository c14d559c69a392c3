-- name: server
-- The server and the size of the database.
select
  split_part(current_setting('server_version'), ' ', 1) as version,
  current_database()::text as database,
  pg_database_size(current_database()) as bytes,
  clock_timestamp() as now;

-- name: workers
-- The workers, the living ones first, with how many shards each owns.
select
  workers.id, workers.host, workers.pid, workers.roles, workers.release, workers.started_at, workers.seen_at,
  workers.expires_at > clock_timestamp() as alive,
  (
    select count(*)::integer
    from dispatcher.shard_leases
    where shard_leases.owner = workers.id
      and shard_leases.expires_at > clock_timestamp()
  ) as shards,
  workers.in_flight, workers.held, workers.lanes, workers.due, workers.oldest_due_seconds
from dispatcher.workers
order by workers.expires_at > clock_timestamp() desc, workers.started_at, workers.id;

-- name: shards
-- All shards and who owns them.
select
  shard_leases.shard,
  case when shard_leases.expires_at > clock_timestamp() then shard_leases.owner end as owner,
  shard_leases.epoch
from dispatcher.shard_leases
order by shard_leases.shard;

-- name: tables
-- The tables and partitions of the schema with their sizes: a partition has a parent, and a day unless it is the default
-- one.
select
  class.relname::text as name,
  parent.relname::text as parent,
  case when class.relname ~ '_[0-9]{8}$' then to_date(right(class.relname, 8), 'YYYYMMDD') end as day,
  case when class.relkind = 'r' then pg_total_relation_size(class.oid) else 0 end as bytes,
  case when class.reltuples >= 0 then class.reltuples::bigint end as rows
from pg_class as class
join pg_namespace on pg_namespace.oid = class.relnamespace
left join pg_inherits on pg_inherits.inhrelid = class.oid
left join pg_class as parent on parent.oid = pg_inherits.inhparent
where pg_namespace.nspname = 'dispatcher'
  and class.relkind in ('r', 'p')
order by parent.relname nulls first, day nulls last, class.relname;

-- name: migrations
-- The migrations that were applied, in order.
select migrations.number, migrations.name, migrations.applied_at, migrations.release
from dispatcher.migrations
order by migrations.number;
