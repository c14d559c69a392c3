-- name: table_exists
-- Whether any migration was ever applied here.
select exists (
  select from pg_class
  join pg_namespace on pg_namespace.oid = relnamespace
  where nspname = 'dispatcher'
    and relname = 'migrations'
)

-- name: schema_exists
-- Whether the schema is there; asked first, because `create schema if not exists` wants the right to create even then.
select exists (select from pg_namespace where nspname = 'dispatcher')

-- name: list_applied
-- Read what was applied, in order.
select number, name, checksum, release
from dispatcher.migrations
order by number

-- name: lock
-- Let one process at a time migrate; $1 is the lock's number. Given back by the end of the transaction.
select pg_advisory_xact_lock($1)

-- name: create_schema
-- Make the schema that everything lives in.
create schema dispatcher

-- name: create_table
-- Make the list of applied migrations.
create table dispatcher.migrations (
  number integer not null,
  name text not null,
  checksum text not null,
  applied_at timestamptz not null default now(),
  release text not null,
  constraint migrations_pkey primary key (number)
)

-- name: record
-- Note a migration as applied: $1 number, $2 name, $3 checksum, $4 the release that did it.
insert into dispatcher.migrations (number, name, checksum, release)
values ($1, $2, $3, $4)

-- name: current_role
-- Who we are, for messages.
select current_user
