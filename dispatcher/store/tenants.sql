-- name: insert_tenant
-- Register a tenant: $1 name, $2 parent or null. No row if the name is taken.
insert into dispatcher.tenants (name, parent, root, shard)
select
  $1,
  $2,
  coalesce(parent.root, $1),
  dispatcher.shard_of(coalesce(parent.root, $1))
from (select) as one
left join dispatcher.tenants as parent on parent.name = $2
on conflict (name) do nothing
returning tenants.name, tenants.parent, tenants.root, tenants.shard, tenants.created_at,
  tenants.payload_format, tenants.preset;

-- name: one
-- A tenant: $1 name.
select tenants.name, tenants.parent, tenants.root, tenants.shard, tenants.created_at,
  tenants.payload_format, tenants.preset
from dispatcher.tenants
where tenants.name = $1;

-- name: every
-- All tenants by name.
select tenants.name, tenants.parent, tenants.root, tenants.shard, tenants.created_at,
  tenants.payload_format, tenants.preset
from dispatcher.tenants
order by tenants.name;

-- name: names
-- Names of tenants, at most $1, to compare a mistyped one with.
select tenants.name
from dispatcher.tenants
order by tenants.name
limit $1;
