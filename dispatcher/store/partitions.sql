-- name: create
-- Make partitions of $1 for $3 days from yesterday on, where they are missing; $2 overrides now. Returns how many.
select dispatcher.create_partitions($1, ((coalesce($2, now()) at time zone 'UTC')::date - 1), $3);

-- name: list
-- The daily partitions of $1, oldest first: name and the day they hold.
select
  child.relname as name,
  to_date(right(child.relname, 8), 'YYYYMMDD') as day
from pg_inherits
join pg_class as child on child.oid = pg_inherits.inhrelid
join pg_class as parent on parent.oid = pg_inherits.inhparent
join pg_namespace on pg_namespace.oid = parent.relnamespace
where pg_namespace.nspname = 'dispatcher'
  and parent.relname = $1
  and child.relname ~ '_[0-9]{8}$'
order by child.relname;

-- name: oldest_event_needed
-- The day (UTC) of the oldest event that something pending still needs; null if nothing is pending.
select (min(needed.event_at) at time zone 'UTC')::date
from (
  select min(deliveries.event_at) as event_at from dispatcher.deliveries
  union all
  select min(outbox_unread.event_at) from dispatcher.outbox_unread
) as needed;

-- name: is_needed
-- Whether anything pending needs an event of a day (UTC): $1 the day.
select exists (
    select
    from dispatcher.deliveries
    where deliveries.event_at >= $1::date::timestamp at time zone 'UTC'
      and deliveries.event_at < ($1::date + 1)::timestamp at time zone 'UTC'
  )
  or exists (
    select
    from dispatcher.outbox_unread
    where outbox_unread.event_at >= $1::date::timestamp at time zone 'UTC'
      and outbox_unread.event_at < ($1::date + 1)::timestamp at time zone 'UTC'
  );

-- name: today
-- The day by the database's clock, UTC: $1 overrides now.
select (coalesce($1, now()) at time zone 'UTC')::date;

-- name: lock
-- Let one worker at a time make partitions, until the transaction ends.
select pg_advisory_xact_lock(730205, 1);
