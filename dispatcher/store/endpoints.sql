-- name: load
-- Endpoints with secrets in use and health, as workers need them: $1 ids, $2 now.
select
  endpoints.id,
  endpoints.shard,
  endpoints.tenant,
  endpoints.url,
  endpoints.state,
  endpoints.notification_email,
  endpoints.additional_notification_emails,
  endpoints.payload_format,
  payload_formats.definition::text as format_definition,
  endpoints.signing_profiles,
  profiles.names as profile_names,
  profiles.definitions as profile_definitions,
  endpoints.headers,
  endpoints.retry_schedule,
  endpoints.timeout,
  endpoints.rate_limit,
  endpoints.warn_after,
  endpoints.disable_after,
  endpoints.description,
  endpoints.archived_at is not null as archived,
  extract(epoch from endpoint_health.failing_since)::float8 as failing_since,
  extract(epoch from endpoint_health.warned_at)::float8 as warned_at,
  extract(epoch from endpoint_health.cool_until)::float8 as cool_until,
  coalesce(endpoint_health.hung, false) as hung,
  secrets.sealed,
  secrets.sealing_keys,
  secrets.expire_at
from dispatcher.endpoints
left join dispatcher.endpoint_health on endpoint_health.endpoint_id = endpoints.id
left join dispatcher.payload_formats
  on payload_formats.name = split_part(endpoints.payload_format, '/', 1)
  and payload_formats.version = split_part(endpoints.payload_format, '/', 2)
cross join lateral (
  select
    array_agg(signing_profiles.name) as names,
    array_agg(signing_profiles.definition::text) as definitions
  from dispatcher.signing_profiles
  where signing_profiles.name = any (endpoints.signing_profiles)
) as profiles
cross join lateral (
  select
    array_agg(in_use.sealed order by in_use.place) as sealed,
    array_agg(in_use.sealing_key order by in_use.place) as sealing_keys,
    array_agg(extract(epoch from in_use.expires_at)::float8 order by in_use.place) as expire_at
  from (
    select
      endpoint_secrets.*,
      row_number() over (order by endpoint_secrets.expires_at is not null, endpoint_secrets.created_at desc) as place
    from dispatcher.endpoint_secrets
    where endpoint_secrets.endpoint_id = endpoints.id
      and (endpoint_secrets.expires_at is null or endpoint_secrets.expires_at > coalesce($2, now()))
  ) as in_use
) as secrets
where endpoints.id = any ($1::uuid[]);

-- name: changed_since
-- Endpoints of some shards at which something happened that their worker must see: $1 shards, $2 since (instant).
select endpoints.id, endpoints.changed_at
from dispatcher.endpoints
where endpoints.changed_at > $2
  and endpoints.shard = any ($1::smallint[])
order by endpoints.changed_at;

-- name: touch
-- Let the workers of some endpoints look at them: $1 ids. Locked in order, so that two such statements cannot deadlock.
update dispatcher.endpoints
set changed_at = clock_timestamp()
where endpoints.id in (
  select locked.id
  from dispatcher.endpoints as locked
  where locked.id = any ($1::uuid[])
  order by locked.id
  for no key update
);

-- name: write_health
-- Write down health: $1 endpoints, $2 failing since, $3 warned at, $4 cool until, $5 hung, $6 last success, $7 last failure,
-- $8 last error; instants in unix seconds. Null clears the first three and leaves the last three as they are.
insert into dispatcher.endpoint_health as health
  (endpoint_id, failing_since, warned_at, cool_until, hung, last_success_at, last_failure_at, last_error)
select
  change.endpoint_id,
  to_timestamp(change.failing_since),
  to_timestamp(change.warned_at),
  to_timestamp(change.cool_until),
  change.hung,
  to_timestamp(change.last_success_at),
  to_timestamp(change.last_failure_at),
  change.last_error
from unnest(
  $1::uuid[], $2::float8[], $3::float8[], $4::float8[], $5::boolean[], $6::float8[], $7::float8[], $8::text[]
) as change (
  endpoint_id, failing_since, warned_at, cool_until, hung, last_success_at, last_failure_at, last_error
)
order by change.endpoint_id
on conflict (endpoint_id) do update
set
  failing_since = excluded.failing_since,
  warned_at = excluded.warned_at,
  cool_until = excluded.cool_until,
  hung = excluded.hung,
  last_success_at = coalesce(excluded.last_success_at, health.last_success_at),
  last_failure_at = coalesce(excluded.last_failure_at, health.last_failure_at),
  last_error = coalesce(excluded.last_error, health.last_error);

-- name: disable
-- Disable an endpoint unless it is: $1 id, $2 reason, $3 now. Returns it if this changed anything.
update dispatcher.endpoints
set
  state = 'disabled',
  disabled_reason = $2,
  disabled_at = coalesce($3, now()),
  changed_at = clock_timestamp()
where endpoints.id = $1
  and endpoints.state <> 'disabled'
  and endpoints.archived_at is null
returning endpoints.id;

-- name: disabled_at
-- Of some endpoints, the last span in which each was disabled at an instant or became so within the minute after, in which
-- an event of that instant may have been read: $1 endpoints, $2 instant.
select distinct on (disabled_spans.endpoint_id)
  disabled_spans.endpoint_id, disabled_spans.began_at, disabled_spans.ended_at, disabled_spans.reason
from dispatcher.disabled_spans
where disabled_spans.endpoint_id = any ($1::uuid[])
  and disabled_spans.began_at <= $2::timestamptz + interval '1 minute'
  and (disabled_spans.ended_at > $2 or disabled_spans.ended_at is null)
order by disabled_spans.endpoint_id, disabled_spans.began_at desc;

-- name: insert_endpoint
-- Create an endpoint of a tenant that exists: $1 tenant, $2 url, $3 description, $4 notification e-mail, $5 additional ones,
-- $6 payload format, $7 signing profiles, $8 filter, $9 headers, $10 retry schedule, $11 timeout, $12 rate limit,
-- $13 warn after, $14 disable after, $15 metadata, $16 include descendants, $17 now.
insert into dispatcher.endpoints (
  tenant, shard, url, description, notification_email, additional_notification_emails, payload_format, signing_profiles,
  filter, headers, retry_schedule, timeout, rate_limit, warn_after, disable_after, metadata, include_descendants,
  created_at
)
select
  tenants.name, tenants.shard, $2, $3, $4, $5, $6, $7,
  $8, $9::jsonb, $10, $11, $12, $13, $14, $15::jsonb, $16,
  coalesce($17, now())
from dispatcher.tenants
where tenants.name = $1
returning endpoints.id;

-- name: update_endpoint
-- Change an endpoint's settings: $1 id, $2 to $16 as for insert_endpoint, $17 now.
update dispatcher.endpoints
set
  url = $2,
  description = $3,
  notification_email = $4,
  additional_notification_emails = $5,
  payload_format = $6,
  signing_profiles = $7,
  filter = $8,
  headers = $9::jsonb,
  retry_schedule = $10,
  timeout = $11,
  rate_limit = $12,
  warn_after = $13,
  disable_after = $14,
  metadata = $15::jsonb,
  include_descendants = $16,
  updated_at = coalesce($17, now()),
  changed_at = clock_timestamp()
where endpoints.id = $1;

-- name: delete_subscriptions
-- Drop the subscriptions of an endpoint that are not wanted any more: $1 endpoint, $2 wanted patterns.
delete from dispatcher.subscriptions
where subscriptions.endpoint_id = $1
  and subscriptions.pattern <> all ($2::text[]);

-- name: insert_subscriptions
-- Subscribe an endpoint: $1 endpoint, $2 patterns. Those that it has stay.
insert into dispatcher.subscriptions as known (tenant, pattern, endpoint_id, include_descendants)
select endpoints.tenant, wanted.pattern, endpoints.id, endpoints.include_descendants
from dispatcher.endpoints
cross join unnest($2::text[]) as wanted (pattern)
where endpoints.id = $1
on conflict (tenant, pattern, endpoint_id) do update
set include_descendants = excluded.include_descendants
where known.include_descendants <> excluded.include_descendants;

-- name: set_state
-- Set an endpoint's state: $1 id, $2 state, $3 reason if disabled, $4 now.
update dispatcher.endpoints
set
  state = $2,
  disabled_reason = $3,
  disabled_at = case when $2 = 'disabled' then coalesce($4, now()) end,
  updated_at = coalesce($4, now()),
  changed_at = clock_timestamp()
where endpoints.id = $1;

-- name: forget_health
-- Let an endpoint begin anew: $1 id. When it last succeeded and failed stays known.
update dispatcher.endpoint_health
set failing_since = null, warned_at = null, cool_until = null, hung = false
where endpoint_health.endpoint_id = $1;

-- name: archive
-- Take an endpoint out of use for good: $1 id, $2 now.
update dispatcher.endpoints
set
  archived_at = coalesce($2, now()),
  updated_at = coalesce($2, now()),
  changed_at = clock_timestamp()
where endpoints.id = $1;

-- name: lock
-- Keep others from changing an endpoint until the transaction ends: $1 id.
select endpoints.id
from dispatcher.endpoints
where endpoints.id = $1
for no key update;

-- name: ids_of_tenant
-- A tenant's endpoints, the oldest first: $1 tenant, $2 archived ones too.
select endpoints.id
from dispatcher.endpoints
where endpoints.tenant = $1
  and ($2 or endpoints.archived_at is null)
order by endpoints.id;

-- name: ids_concerned
-- The endpoints that a tenant's events can go to, archived ones too, the oldest first: its own, and those of tenants above
-- that ask for it: $1 tenant.
select endpoints.id
from dispatcher.endpoints
where endpoints.tenant = $1
  or (
    endpoints.include_descendants
    and endpoints.tenant = any (array(
      select unnest(tenants.ancestors) from dispatcher.tenants where tenants.name = $1
    ))
  )
order by endpoints.id;

-- name: ids
-- All endpoints, the oldest first: $1 archived ones too.
select endpoints.id
from dispatcher.endpoints
where $1 or endpoints.archived_at is null
order by endpoints.id;

-- name: show
-- Endpoints as people see them, the oldest first: $1 ids.
select
  endpoints.id,
  endpoints.tenant,
  endpoints.shard,
  endpoints.url,
  array(
    select subscriptions.pattern
    from dispatcher.subscriptions
    where subscriptions.endpoint_id = endpoints.id
    order by subscriptions.pattern
  ) as subscriptions,
  endpoints.state,
  endpoints.created_at,
  endpoints.updated_at,
  endpoints.archived_at,
  endpoints.disabled_at,
  endpoints.disabled_reason,
  endpoints.description,
  endpoints.notification_email,
  endpoints.additional_notification_emails,
  endpoints.payload_format,
  coalesce(payload_formats.deprecated, format_deprecations.deprecated) as format_deprecated,
  endpoints.signing_profiles,
  endpoints.filter,
  endpoints.headers,
  endpoints.retry_schedule,
  endpoints.timeout,
  endpoints.rate_limit,
  endpoints.warn_after,
  endpoints.disable_after,
  endpoints.metadata,
  endpoints.include_descendants,
  endpoint_health.failing_since,
  endpoint_health.warned_at,
  endpoint_health.cool_until,
  coalesce(endpoint_health.hung, false) as hung,
  endpoint_health.last_success_at,
  endpoint_health.last_failure_at,
  endpoint_health.last_error
from dispatcher.endpoints
left join dispatcher.endpoint_health on endpoint_health.endpoint_id = endpoints.id
left join dispatcher.payload_formats
  on payload_formats.name = split_part(endpoints.payload_format, '/', 1)
  and payload_formats.version = split_part(endpoints.payload_format, '/', 2)
left join dispatcher.format_deprecations on format_deprecations.format = endpoints.payload_format
where endpoints.id = any ($1::uuid[])
order by endpoints.id;

-- name: secrets
-- The secrets of an endpoint that are in use, the current one first: $1 endpoint, $2 now, $3 its private keys, or the
-- shared ones.
select
  endpoint_secrets.sealed,
  endpoint_secrets.sealing_key,
  endpoint_secrets.created_at,
  endpoint_secrets.expires_at
from dispatcher.endpoint_secrets
where endpoint_secrets.endpoint_id = $1
  and endpoint_secrets.is_private = $3
  and (endpoint_secrets.expires_at is null or endpoint_secrets.expires_at > coalesce($2, now()))
order by endpoint_secrets.expires_at is not null, endpoint_secrets.created_at desc;

-- name: retire_secrets
-- Let the secrets of an endpoint end soon: $1 endpoint, $2 seconds from now, $3 now, $4 its private keys, or the shared
-- ones. What ends earlier stays so.
update dispatcher.endpoint_secrets
set expires_at = least(endpoint_secrets.expires_at, coalesce($3, now()) + make_interval(secs => $2))
where endpoint_secrets.endpoint_id = $1
  and endpoint_secrets.is_private = $4;

-- name: forget_secrets
-- Delete the secrets of an endpoint that are past their end: $1 endpoint, $2 now.
delete from dispatcher.endpoint_secrets
where endpoint_secrets.endpoint_id = $1
  and endpoint_secrets.expires_at <= coalesce($2, now());

-- name: insert_secret
-- Give an endpoint its current secret: $1 endpoint, $2 sealed, $3 id of the main key or null, $4 it is a private key.
insert into dispatcher.endpoint_secrets (endpoint_id, sealed, sealing_key, is_private)
values ($1, $2, $3, $4);
