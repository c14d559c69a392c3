-- name: put_format
-- Keep a payload format: $1 name, $2 version, $3 definition, $4 deprecated from, $5 now. Says whether there was none.
insert into dispatcher.payload_formats as known (name, version, definition, deprecated, created_at)
values ($1, $2, $3::json, $4, coalesce($5, now()))
on conflict (name, version) do update
set definition = excluded.definition, deprecated = excluded.deprecated, updated_at = coalesce($5, now())
returning known.updated_at is null as is_new;

-- name: deprecate_format
-- Say from which day on a payload format is not to be used: $1 name, $2 version, $3 day or null, $4 now.
update dispatcher.payload_formats
set deprecated = $3, updated_at = coalesce($4, now())
where payload_formats.name = $1
  and payload_formats.version = $2
returning payload_formats.name;

-- name: deprecate_shipped
-- Say from which day on a format that comes with the service is not to be used: $1 full name, $2 day.
insert into dispatcher.format_deprecations (format, deprecated)
values ($1, $2)
on conflict (format) do update
set deprecated = excluded.deprecated;

-- name: lift_shipped
-- Take that back: $1 full name.
delete from dispatcher.format_deprecations
where format_deprecations.format = $1;

-- name: shipped_deprecations
-- The formats that come with the service and are not to be used, and from which day on.
select format_deprecations.format, format_deprecations.deprecated
from dispatcher.format_deprecations;

-- name: drop_format
-- Forget a payload format: $1 name, $2 version. The caller knows that nobody uses it.
delete from dispatcher.payload_formats
where payload_formats.name = $1
  and payload_formats.version = $2
returning payload_formats.name;

-- name: formats
-- Payload formats by name and version: $1 full names, or null for all.
select
  payload_formats.name || '/' || payload_formats.version as full_name,
  payload_formats.definition::text as definition,
  payload_formats.deprecated,
  payload_formats.created_at,
  payload_formats.updated_at
from dispatcher.payload_formats
where $1::text[] is null
  or payload_formats.name || '/' || payload_formats.version = any ($1::text[])
order by payload_formats.name, payload_formats.version;

-- name: put_profile
-- Keep a signing profile: $1 name, $2 definition, $3 now. Says whether there was none.
insert into dispatcher.signing_profiles as known (name, definition, created_at)
values ($1, $2::json, coalesce($3, now()))
on conflict (name) do update
set definition = excluded.definition, updated_at = coalesce($3, now())
returning known.updated_at is null as is_new;

-- name: drop_profile
-- Forget a signing profile: $1 name. The caller knows that nobody uses it.
delete from dispatcher.signing_profiles
where signing_profiles.name = $1
returning signing_profiles.name;

-- name: profiles
-- Signing profiles by name: $1 names or null for all.
select
  signing_profiles.name as full_name,
  signing_profiles.definition::text as definition,
  null::date as deprecated,
  signing_profiles.created_at,
  signing_profiles.updated_at
from dispatcher.signing_profiles
where $1::text[] is null
  or signing_profiles.name = any ($1::text[])
order by signing_profiles.name;

-- name: lock
-- Let one at a time change definitions, or bind a webhook to one, until the transaction ends.
select pg_advisory_xact_lock(730206, 1);

-- name: lock_shared
-- Keep definitions as they are until the transaction ends; any number may.
select pg_advisory_xact_lock_shared(730206, 1);

-- name: users_of_format
-- The webhooks that are pinned to a payload format and not archived: $1 full name.
select endpoints.id
from dispatcher.endpoints
where endpoints.payload_format = $1
  and endpoints.archived_at is null;

-- name: format_counts
-- How many webhooks that are not archived are pinned to each payload format.
select endpoints.payload_format as full_name, count(*) as webhooks
from dispatcher.endpoints
where endpoints.archived_at is null
group by endpoints.payload_format;

-- name: users_of_profile
-- The webhooks that sign by a profile and are not archived: $1 name.
select endpoints.id
from dispatcher.endpoints
where $1 = any (endpoints.signing_profiles)
  and endpoints.archived_at is null;

-- name: defaults
-- What a tenant's new webhooks get that choose none: of the nearest tenant, itself first, that names one: $1 tenant.
select
  (array_agg(above.payload_format order by chain.distance) filter (where above.payload_format is not null))[1]
    as payload_format,
  (array_agg(above.preset order by chain.distance) filter (where above.preset is not null))[1] as preset
from dispatcher.tenants
cross join lateral unnest(tenants.name || tenants.ancestors) with ordinality as chain (name, distance)
join dispatcher.tenants as above on above.name = chain.name
where tenants.name = $1;

-- name: set_defaults
-- Set what a tenant's new webhooks get: $1 tenant, $2 payload format or null, $3 preset or null.
update dispatcher.tenants
set payload_format = $2, preset = $3
where tenants.name = $1;
