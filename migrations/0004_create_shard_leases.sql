-- Who works: workers with their heartbeat, and the lease of each shard.

create table dispatcher.workers (
  id uuid not null,
  host text not null,
  pid integer not null,
  roles text[] not null,
  release text not null,
  started_at timestamptz not null,
  seen_at timestamptz not null,
  expires_at timestamptz not null,
  constraint workers_pkey primary key (id)
) with (fillfactor = 50);

create table dispatcher.shard_leases (
  shard smallint not null,
  owner uuid,
  epoch bigint not null default 0,
  expires_at timestamptz not null default '-infinity',
  constraint shard_leases_pkey primary key (shard)
) with (fillfactor = 10, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
insert into dispatcher.shard_leases (shard) select generate_series(0, 255);
comment on table dispatcher.shard_leases is 'The time-limited right to fan out and deliver for a group of tenants.';
