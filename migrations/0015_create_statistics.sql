-- Counters over time, written by the workers every few seconds, and what each worker does now. They are statistics, not
-- the record: what a killed process had not written is missing.

create table dispatcher.service_statistics (
  resolution smallint not null,
  start_at timestamptz not null,
  answered_2xx bigint not null,
  answered_3xx bigint not null,
  answered_4xx bigint not null,
  answered_5xx bigint not null,
  unreachable bigint not null,
  blocked bigint not null,
  delivered bigint not null,
  dead bigint not null,
  cancelled bigint not null,
  latencies integer[] not null,
  due bigint,
  oldest_due_seconds double precision,
  in_flight bigint,
  constraint service_statistics_pkey primary key (resolution, start_at),
  constraint service_statistics_resolution_known check (resolution in (60, 900))
) with (fillfactor = 40);
comment on table dispatcher.service_statistics is
  'What the whole service did, by the minute (for two days) and by the quarter of an hour. A row that is missing: nobody worked.';
comment on column dispatcher.service_statistics.latencies is
  'Attempts that were sent, by how long they took: dispatcher/tally.py has the bounds.';
comment on column dispatcher.service_statistics.due is 'The most deliveries that were seen due; so for the two below.';

create table dispatcher.endpoint_statistics (
  endpoint_id uuid not null,
  start_at timestamptz not null,
  answered_2xx integer not null,
  answered_3xx integer not null,
  answered_4xx integer not null,
  answered_5xx integer not null,
  unreachable integer not null,
  blocked integer not null,
  dead integer not null,
  constraint endpoint_statistics_pkey primary key (endpoint_id, start_at)
) partition by range (start_at);
comment on table dispatcher.endpoint_statistics is
  'What came of an endpoint''s deliveries, by the quarter of an hour; no row where nothing did.';
-- half empty, so that all rows of a page can be updated at once and stay on it
create table dispatcher.endpoint_statistics_default partition of dispatcher.endpoint_statistics default
  with (fillfactor = 50);

alter table dispatcher.workers
  add column in_flight integer not null default 0,
  add column held integer not null default 0,
  add column lanes integer not null default 0,
  add column due bigint not null default 0,
  add column oldest_due_seconds double precision not null default 0;
comment on column dispatcher.workers.in_flight is 'Requests under way; told every few seconds, as are the next four.';
comment on column dispatcher.workers.held is 'Deliveries in memory.';
comment on column dispatcher.workers.lanes is 'Endpoints in memory.';

create or replace function dispatcher.create_partitions(parent text, first_day date, days integer) returns integer
language plpgsql set search_path = ''
as $$
-- Make one partition per UTC day, unless it is there, stored as the default partition is. Rows of that day that the
-- default partition caught move over. Attaching locks out neither readers nor writers of the parent. Returns how many
-- were made.
declare
  day date;
  child text;
  key text;
  options text;
  made integer := 0;
begin
  select pg_attribute.attname into strict key
  from pg_catalog.pg_partitioned_table
  join pg_catalog.pg_attribute on pg_attribute.attrelid = pg_partitioned_table.partrelid
    and pg_attribute.attnum = pg_partitioned_table.partattrs[0]
  where pg_partitioned_table.partrelid = to_regclass('dispatcher.' || quote_ident(parent));
  select coalesce(' with (' || array_to_string(pg_class.reloptions, ', ') || ')', '') into strict options
  from pg_catalog.pg_class
  where pg_class.oid = to_regclass('dispatcher.' || quote_ident(parent || '_default'));
  for day in select first_day + n from pg_catalog.generate_series(0, days - 1) as n loop
    child := parent || '_' || to_char(day, 'YYYYMMDD');
    continue when to_regclass('dispatcher.' || child) is not null;
    execute format(
      'create table dispatcher.%I (like dispatcher.%I including defaults including constraints)', child, parent
    ) || options;
    execute format(
      'with moved as (delete from dispatcher.%I where %I >= %L and %I < %L returning *) insert into dispatcher.%I select * from moved',
      parent || '_default',
      key, day::text || ' 00:00:00+00', key, (day + 1)::text || ' 00:00:00+00',
      child
    );
    execute format(
      'alter table dispatcher.%I attach partition dispatcher.%I for values from (%L) to (%L)',
      parent, child, day::text || ' 00:00:00+00', (day + 1)::text || ' 00:00:00+00'
    );
    made := made + 1;
  end loop;
  return made;
end
$$;

select dispatcher.create_partitions('endpoint_statistics', (now() at time zone 'UTC')::date, 4);
