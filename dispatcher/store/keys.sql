-- name: insert_key
-- Store a new key: $1 tenant, $2 operator, $3 prefix, $4 digest, $5 description or null.
insert into dispatcher.api_keys (tenant, operator, prefix, digest, description)
values ($1, $2, $3, $4, $5)
returning id, tenant, operator, prefix, description, created_at, last_used_at, revoked_at;

-- name: of_tenant
-- A tenant's keys, the oldest first: $1 tenant.
select id, tenant, operator, prefix, description, created_at, last_used_at, revoked_at
from dispatcher.api_keys
where api_keys.tenant = $1
order by api_keys.id;

-- name: every
-- All keys, the oldest first.
select id, tenant, operator, prefix, description, created_at, last_used_at, revoked_at
from dispatcher.api_keys
order by api_keys.id;

-- name: revoke
-- Revoke a key unless it is revoked: $1 id, $2 now.
update dispatcher.api_keys
set revoked_at = coalesce(revoked_at, $2, now())
where api_keys.id = $1
returning id, tenant, operator, prefix, description, created_at, last_used_at, revoked_at;

-- name: in_use
-- The key with a digest, unless it is revoked: $1 digest.
select id, tenant, operator, prefix, description, created_at, last_used_at, revoked_at, digest
from dispatcher.api_keys
where api_keys.digest = $1
  and api_keys.revoked_at is null;

-- name: mark_used
-- Note that a key is in use, unless that was noted a moment ago: $1 id, $2 seconds of that moment, $3 now.
update dispatcher.api_keys
set last_used_at = coalesce($3, now())
where api_keys.id = $1
  and (api_keys.last_used_at is null or api_keys.last_used_at < coalesce($3, now()) - make_interval(secs => $2));
