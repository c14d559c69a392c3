-- What systems that people move from need: payload formats and signing profiles that operators put in, filters, and
-- endpoints that get the events of tenants below theirs.

create table dispatcher.payload_formats (
  name text not null,
  version text not null,
  definition json not null,
  deprecated date,
  created_at timestamptz not null default now(),
  updated_at timestamptz,
  constraint payload_formats_pkey primary key (name, version)
);
comment on table dispatcher.payload_formats is
  'How events become bodies, beside the formats that come with the service. An endpoint names one as name/version.';
comment on column dispatcher.payload_formats.definition is 'As it was put in; json, so that the fields keep their order.';
comment on column dispatcher.payload_formats.deprecated is
  'The day from which nobody should use it any more; it goes on working.';

create table dispatcher.signing_profiles (
  name text not null,
  definition json not null,
  created_at timestamptz not null default now(),
  updated_at timestamptz,
  constraint signing_profiles_pkey primary key (name)
);
comment on table dispatcher.signing_profiles is
  'Which headers prove a request, beside the profiles that come with the service.';

alter table dispatcher.endpoint_secrets
  add column is_private boolean not null default false;
comment on column dispatcher.endpoint_secrets.is_private is
  'An ed25519 key (whsk_), of which the subscriber gets the public half; it is rotated apart from the shared secret.';

alter table dispatcher.tenants
  add column payload_format text,
  add column ancestors text[] not null default '{}';
comment on column dispatcher.tenants.payload_format is
  'What its new endpoints are pinned to if they choose none; null: what the nearest tenant above has, or standard.';
comment on column dispatcher.tenants.ancestors is 'Its parent, and what is above it up to the root; for ever.';

with recursive above as (
  select tenants.name, tenants.parent as ancestor, 1 as distance
  from dispatcher.tenants
  where tenants.parent is not null
  union all
  select above.name, tenants.parent, above.distance + 1
  from above
  join dispatcher.tenants on tenants.name = above.ancestor
  where tenants.parent is not null
)
update dispatcher.tenants
set ancestors = chain.names
from (
  select above.name, array_agg(above.ancestor order by above.distance) as names
  from above
  group by above.name
) as chain
where chain.name = tenants.name;

create function dispatcher.stamp_tenant() returns trigger
language plpgsql set search_path = ''
as $$
begin
  if new.parent is not null then
    new.ancestors := (
      select new.parent || tenants.ancestors
      from dispatcher.tenants
      where tenants.name = new.parent
    );
  end if;
  return new;
end
$$;
create trigger stamp_tenant
  before insert on dispatcher.tenants
  for each row execute function dispatcher.stamp_tenant();

alter table dispatcher.endpoints
  add column include_descendants boolean not null default false;
comment on column dispatcher.endpoints.include_descendants is 'It gets the events of the tenants below its own, too.';

alter table dispatcher.subscriptions
  add column include_descendants boolean not null default false;
create index subscriptions_to_descendants on dispatcher.subscriptions (tenant, pattern) where include_descendants;
comment on column dispatcher.subscriptions.include_descendants is 'As its endpoint has it; here for fan-out.';

create table dispatcher.filtered_events (
  event_id uuid not null,
  event_at timestamptz not null,
  endpoint_id uuid not null,
  recorded_at timestamptz not null,
  fault text,
  constraint filtered_events_pkey primary key (event_id, endpoint_id, event_at)
) partition by range (event_at);
create table dispatcher.filtered_events_default partition of dispatcher.filtered_events default;
comment on table dispatcher.filtered_events is
  'Events that an endpoint was subscribed to, and did not get because its filter said no; or got because it failed.';
comment on column dispatcher.filtered_events.fault is 'Why the filter failed, so that the event was delivered; null: it said no.';

select dispatcher.create_partitions('filtered_events', (now() at time zone 'UTC')::date, 4);
