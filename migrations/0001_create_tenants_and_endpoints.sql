-- What is known beforehand: tenants, their keys, their endpoints with subscriptions, secrets and health.
-- Rows here are few and change rarely; workers keep them in memory and look for changes by changed_at.

create function dispatcher.uuid_v7() returns uuid
language sql volatile parallel safe
as $$
  -- RFC 9562 section 5.7: 48 bits of unix milliseconds, then random bits; PostgreSQL has its own only from 18 on
  select encode(
    set_bit(
      set_bit(
        overlay(
          uuid_send(gen_random_uuid())
          placing substring(int8send((extract(epoch from clock_timestamp()) * 1000)::bigint) from 3)
          from 1 for 6
        ),
        52, 1
      ),
      53, 1
    ),
    'hex'
  )::uuid
$$;
comment on function dispatcher.uuid_v7() is 'A time-ordered UUID (version 7).';

create function dispatcher.shard_of(root_tenant text) returns smallint
language sql immutable strict parallel safe
as $$
  select get_byte(sha256(convert_to(root_tenant, 'UTF8')), 0)::smallint
$$;
comment on function dispatcher.shard_of(text) is
  'The shard, 0 to 255, of a tenant tree. Stamped on rows, so it never changes.';

create function dispatcher.patterns_of(event_type text) returns text[]
language sql immutable strict parallel safe
as $$
  -- a.b.c is wanted by: a.b.c, a.b.*, a.*, *
  select case
    when position('.' in event_type) = 0 then array[event_type, '*']
    else array[event_type, '*'] || array(
      select array_to_string(part.names[1:n.n], '.') || '.*'
      from (select string_to_array(event_type, '.')) as part(names)
      cross join lateral generate_series(1, cardinality(part.names) - 1) as n(n)
    )
  end
$$;
comment on function dispatcher.patterns_of(text) is 'Every subscription that matches an event type.';

create table dispatcher.tenants (
  name text not null,
  parent text,
  root text not null,
  shard smallint not null,
  created_at timestamptz not null default now(),
  constraint tenants_pkey primary key (name),
  constraint tenants_parent_exists foreign key (parent) references dispatcher.tenants (name),
  constraint tenants_name_1_to_255_characters_no_control_characters
    check (length(name) between 1 and 255 and name !~ '[[:cntrl:]]'),
  constraint tenants_root_is_itself_or_has_parent check ((parent is null) = (root = name))
);
create index tenants_by_parent on dispatcher.tenants (parent) where parent is not null;
comment on table dispatcher.tenants is
  'Whose events and endpoints they are. The root of the tree decides the shard; a parent is for ever.';

create table dispatcher.api_keys (
  id uuid not null default dispatcher.uuid_v7(),
  tenant text not null,
  operator boolean not null default false,
  prefix text not null,
  digest bytea not null,
  description text,
  created_at timestamptz not null default now(),
  last_used_at timestamptz,
  revoked_at timestamptz,
  constraint api_keys_pkey primary key (id),
  constraint api_keys_digest_unique unique (digest),
  constraint api_keys_tenant_exists foreign key (tenant) references dispatcher.tenants (name)
);
create index api_keys_by_tenant on dispatcher.api_keys (tenant);
comment on column dispatcher.api_keys.digest is 'SHA-256 of the key: keys are 32 random bytes, shown once.';

create table dispatcher.endpoints (
  id uuid not null default dispatcher.uuid_v7(),
  tenant text not null,
  shard smallint not null,
  url text not null,
  state text not null default 'active',
  disabled_reason text,
  disabled_at timestamptz,
  archived_at timestamptz,
  description text,
  notification_email text,
  additional_notification_emails text[] not null default '{}',
  payload_format text not null default 'standard',
  signing_profiles text[] not null default '{standard}',
  filter text,
  headers jsonb not null default '{}',
  retry_schedule double precision[],
  timeout double precision,
  rate_limit double precision,
  warn_after double precision,
  disable_after double precision,
  metadata jsonb not null default '{}',
  created_at timestamptz not null default now(),
  updated_at timestamptz,
  changed_at timestamptz not null default clock_timestamp(),
  constraint endpoints_pkey primary key (id),
  constraint endpoints_tenant_exists foreign key (tenant) references dispatcher.tenants (name),
  constraint endpoints_state_known check (state in ('active', 'paused', 'disabled')),
  constraint endpoints_rate_limit_positive check (rate_limit > 0),
  constraint endpoints_timeout_positive check (timeout > 0)
);
create index endpoints_by_tenant on dispatcher.endpoints (tenant, id);
create index endpoints_by_change on dispatcher.endpoints (changed_at);
comment on column dispatcher.endpoints.updated_at is 'When a person last changed it; null until then.';
comment on column dispatcher.endpoints.changed_at is
  'When anything happened that its worker must look at: a change, or deliveries that a person moved.';
comment on column dispatcher.endpoints.retry_schedule is 'Delays between attempts, seconds; null: the configured default.';

create table dispatcher.subscriptions (
  tenant text not null,
  pattern text not null,
  endpoint_id uuid not null,
  constraint subscriptions_pkey primary key (tenant, pattern, endpoint_id),
  constraint subscriptions_endpoint_exists foreign key (endpoint_id) references dispatcher.endpoints (id)
);
create index subscriptions_by_endpoint on dispatcher.subscriptions (endpoint_id);

create table dispatcher.endpoint_secrets (
  id uuid not null default dispatcher.uuid_v7(),
  endpoint_id uuid not null,
  sealed bytea not null,
  sealing_key text,
  created_at timestamptz not null default clock_timestamp(),
  expires_at timestamptz,
  constraint endpoint_secrets_pkey primary key (id),
  constraint endpoint_secrets_endpoint_exists foreign key (endpoint_id) references dispatcher.endpoints (id)
);
create index endpoint_secrets_by_endpoint on dispatcher.endpoint_secrets (endpoint_id, created_at desc);
comment on column dispatcher.endpoint_secrets.sealing_key is 'Id of the main key that sealed it; null: not sealed, plain UTF-8.';
comment on column dispatcher.endpoint_secrets.expires_at is 'Null for the current one; the end of the overlap for a rotated one.';

create table dispatcher.endpoint_health (
  endpoint_id uuid not null,
  failing_since timestamptz,
  warned_at timestamptz,
  cool_until timestamptz,
  hung boolean not null default false,
  last_success_at timestamptz,
  last_failure_at timestamptz,
  last_error text,
  constraint endpoint_health_pkey primary key (endpoint_id),
  constraint endpoint_health_endpoint_exists foreign key (endpoint_id) references dispatcher.endpoints (id)
) with (fillfactor = 70);
comment on table dispatcher.endpoint_health is
  'Written when health changes, not at every attempt; kept apart from endpoints so that it never invalidates them.';
