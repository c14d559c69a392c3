-- The catalogue's documents, as far as they are imported, and the events that were refused by it.

create table dispatcher.catalog_documents (
  position smallint not null,
  import_id uuid not null,
  name text not null,
  document json not null,
  imported_at timestamptz not null,
  constraint catalog_documents_pkey primary key (position)
);
comment on table dispatcher.catalog_documents is
  'AsyncAPI documents that describe the event types. An import replaces them all.';
comment on column dispatcher.catalog_documents.import_id is 'The same for all: by it workers see that there is a new catalogue.';

create table dispatcher.refused_events (
  event_id uuid not null,
  event_at timestamptz not null,
  tenant text not null,
  event_type text not null,
  recorded_at timestamptz not null,
  reason text not null,
  constraint refused_events_pkey primary key (event_id, event_at)
) partition by range (event_at);
create table dispatcher.refused_events_default partition of dispatcher.refused_events default;
comment on table dispatcher.refused_events is
  'Events that the catalogue spoke against when they were read: kept, sent to nobody, until they are read again or retention ends.';

create or replace function dispatcher.create_partitions(parent text, first_day date, days integer) returns integer
language plpgsql set search_path = ''
as $$
-- Make one partition per UTC day, unless it is there. Rows of that day that the default partition caught move over.
-- Attaching locks out neither readers nor writers of the parent. Returns how many were made.
declare
  day date;
  child text;
  key text;
  made integer := 0;
begin
  select pg_attribute.attname into strict key
  from pg_catalog.pg_partitioned_table
  join pg_catalog.pg_attribute on pg_attribute.attrelid = pg_partitioned_table.partrelid
    and pg_attribute.attnum = pg_partitioned_table.partattrs[0]
  where pg_partitioned_table.partrelid = to_regclass('dispatcher.' || quote_ident(parent));
  for day in select first_day + n from pg_catalog.generate_series(0, days - 1) as n loop
    child := parent || '_' || to_char(day, 'YYYYMMDD');
    continue when to_regclass('dispatcher.' || child) is not null;
    execute format(
      'create table dispatcher.%I (like dispatcher.%I including defaults including constraints)', child, parent
    );
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

select dispatcher.create_partitions('refused_events', (now() at time zone 'UTC')::date, 4);
