-- name: server
-- Who is asked, as whom, and what time it is there.
select
  current_user::text as role,
  current_setting('server_version_num')::integer / 10000 as version,
  pg_is_in_recovery() as standby,
  extract(epoch from clock_timestamp())::float8 as now;

-- name: rights
-- What the current role may not do: tables that it cannot read and write whole, and partitioned ones that it does not
-- own, to which it can add no partitions.
select
  has_schema_privilege('dispatcher', 'usage') as may_use,
  has_schema_privilege('dispatcher', 'create') as may_create,
  coalesce(array_agg(tables.relname order by tables.relname) filter (
    where not (
      has_table_privilege(tables.oid, 'select')
      and has_table_privilege(tables.oid, 'insert')
      and has_table_privilege(tables.oid, 'update')
      and has_table_privilege(tables.oid, 'delete')
    )
  ), '{}')::text[] as closed,
  coalesce(array_agg(tables.relname order by tables.relname) filter (
    where tables.relkind = 'p' and not pg_has_role(tables.relowner, 'usage')
  ), '{}')::text[] as foreign_owned
from pg_class as tables
join pg_namespace on pg_namespace.oid = tables.relnamespace
where pg_namespace.nspname = 'dispatcher'
  and tables.relkind in ('r', 'p')
  and tables.relname <> 'migrations';

-- name: producer
-- Whether the role of producers exists, and may do what producers do.
select
  true as present,
  has_schema_privilege(pg_roles.oid, 'dispatcher', 'usage')
    and has_column_privilege(pg_roles.oid, 'dispatcher.outbox', 'payload', 'insert') as may_insert
from pg_roles
where pg_roles.rolname = 'dispatcher_producer'
union all
select false, false
limit 1;

-- name: partitions
-- For each partitioned table, how many days from today on (UTC) have a partition without a gap.
select
  parent.relname::text as parent,
  coalesce((
    select min(n) from generate_series(0, 30) as n
    where to_regclass(
      'dispatcher.' || parent.relname || '_' || to_char((now() at time zone 'UTC')::date + n, 'YYYYMMDD')
    ) is null
  ), 31)::integer as days
from pg_class as parent
join pg_namespace on pg_namespace.oid = parent.relnamespace
where pg_namespace.nspname = 'dispatcher'
  and parent.relkind = 'p'
order by parent.relname;

-- name: default_partitions
-- Which default partitions hold rows that belong into a day's.
select held.parent
from (
  select 'outbox' as parent where exists (select from dispatcher.outbox_default)
  union all
  select 'finished_deliveries' where exists (select from dispatcher.finished_deliveries_default)
  union all
  select 'attempts' where exists (select from dispatcher.attempts_default)
  union all
  select 'unmatched_events' where exists (select from dispatcher.unmatched_events_default)
  union all
  select 'filtered_events' where exists (select from dispatcher.filtered_events_default)
  union all
  select 'endpoint_statistics' where exists (select from dispatcher.endpoint_statistics_default)
  union all
  select 'tenant_statistics' where exists (select from dispatcher.tenant_statistics_default)
) as held
order by held.parent;

-- name: workers
-- Who works, and how many of the shards somebody owns.
select
  (select count(*) from dispatcher.workers where workers.expires_at > clock_timestamp())::integer as workers,
  (
    select count(*) from dispatcher.shard_leases
    where shard_leases.owner is not null
      and shard_leases.expires_at > clock_timestamp()
  )::integer as owned,
  (select count(*) from dispatcher.shard_leases)::integer as shards;

-- name: backlog
-- Seconds since the oldest delivery was due whose endpoint is active, well and not asked to wait; null: none is due.
select extract(epoch from clock_timestamp() - min(deliveries.due_at))::float8
from dispatcher.deliveries
join dispatcher.endpoints on endpoints.id = deliveries.endpoint_id
left join dispatcher.endpoint_health on endpoint_health.endpoint_id = endpoints.id
where deliveries.due_at <= clock_timestamp()
  and endpoints.state = 'active'
  and endpoint_health.failing_since is null;

-- name: unread
-- How many events fan-out has not read ($1 at most are counted), and for how many seconds the oldest has waited.
select
  count(*)::integer as events,
  extract(epoch from clock_timestamp() - min(unread.event_at))::float8 as seconds
from (
  select outbox_unread.event_at from dispatcher.outbox_unread order by outbox_unread.event_at limit $1
) as unread;

-- name: mails
-- How many mails are due but unsent, and for how many seconds the oldest has waited.
select
  count(*)::integer as mails,
  extract(epoch from clock_timestamp() - min(mails.created_at))::float8 as seconds
from dispatcher.mails
where mails.sent_at is null
  and mails.given_up_at is null
  and mails.due_at <= clock_timestamp();

-- name: sealing
-- Under which main keys secrets in use are sealed; null: not sealed.
select endpoint_secrets.sealing_key, count(*)::integer as secrets
from dispatcher.endpoint_secrets
where endpoint_secrets.expires_at is null
  or endpoint_secrets.expires_at > clock_timestamp()
group by endpoint_secrets.sealing_key;

-- name: formats_in_use
-- The payload formats that webhooks are pinned to which are not archived: how many, what is stored of them, and the day
-- from which nobody should use them.
select
  endpoints.payload_format as name,
  count(*)::integer as webhooks,
  min(payload_formats.definition::text) as definition,
  min(coalesce(payload_formats.deprecated, format_deprecations.deprecated)) as deprecated,
  bool_or(
    coalesce(payload_formats.deprecated, format_deprecations.deprecated) <= (now() at time zone 'UTC')::date
  ) as is_over
from dispatcher.endpoints
left join dispatcher.payload_formats
  on payload_formats.name = split_part(endpoints.payload_format, '/', 1)
  and payload_formats.version = split_part(endpoints.payload_format, '/', 2)
left join dispatcher.format_deprecations on format_deprecations.format = endpoints.payload_format
where endpoints.archived_at is null
group by endpoints.payload_format
order by endpoints.payload_format;

-- name: profiles_in_use
-- The signing profiles by which webhooks sign that are not archived: how many, and what is stored of them.
select
  listed.name,
  count(*)::integer as webhooks,
  min(signing_profiles.definition::text) as definition
from dispatcher.endpoints
cross join lateral unnest(endpoints.signing_profiles) as listed (name)
left join dispatcher.signing_profiles on signing_profiles.name = listed.name
where endpoints.archived_at is null
group by listed.name
order by listed.name;

-- name: oldest_snapshot
-- The session of this database that holds vacuum back the furthest. Its time is null if this role may not see it.
select
  pg_stat_activity.pid,
  coalesce(pg_stat_activity.application_name, '') as application,
  coalesce(pg_stat_activity.state, 'unknown') as state,
  extract(epoch from clock_timestamp() - pg_stat_activity.xact_start)::float8 as seconds,
  age(pg_stat_activity.backend_xmin) as transactions
from pg_stat_activity
where pg_stat_activity.backend_xmin is not null
  and pg_stat_activity.pid <> pg_backend_pid()
  and (pg_stat_activity.datname = current_database() or pg_stat_activity.datname is null)
order by age(pg_stat_activity.backend_xmin) desc, pg_stat_activity.xact_start
limit 1;

-- name: prepared_transactions
-- Transactions that were prepared and neither committed nor rolled back, and the age of the oldest in seconds.
select
  count(*)::integer as transactions,
  min(pg_prepared_xacts.gid) as example,
  extract(epoch from clock_timestamp() - min(pg_prepared_xacts.prepared))::float8 as seconds
from pg_prepared_xacts
where pg_prepared_xacts.database = current_database();

-- name: replication_slots
-- Slots that hold WAL, and how many bytes of it.
select
  pg_replication_slots.slot_name::text as name,
  pg_replication_slots.active,
  pg_wal_lsn_diff(
    case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_lsn() end,
    pg_replication_slots.restart_lsn
  )::bigint as bytes
from pg_replication_slots
where pg_replication_slots.restart_lsn is not null
order by 3 desc;
