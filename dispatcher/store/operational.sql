-- name: write
-- Write events about endpoints into the outbox of each one's tenant, where an endpoint of that tenant wants them: $1
-- endpoints, $2 types, $3 payloads, $4 now; or where one of a tenant above does, which gets those of the tenants below
-- it. Returns how many were wanted.
with told as (
  insert into dispatcher.outbox (tenant, event_type, payload, occurred_at)
  select about.tenant, change.event_type, change.payload::json, coalesce($4, now())
  from unnest($1::uuid[], $2::text[], $3::text[]) with ordinality as change (endpoint_id, event_type, payload, place)
  join dispatcher.endpoints as about on about.id = change.endpoint_id
  join dispatcher.tenants on tenants.name = about.tenant
  where exists (
    select
    from dispatcher.subscriptions
    join dispatcher.endpoints as subscriber on subscriber.id = subscriptions.endpoint_id
    where (
        subscriptions.tenant = about.tenant
        or (subscriptions.include_descendants and subscriptions.tenant = any (tenants.ancestors))
      )
      and subscriptions.pattern = any (dispatcher.patterns_of(change.event_type))
      and subscriber.state <> 'disabled'
      and subscriber.archived_at is null
  )
  order by change.place
  returning outbox.id
)
select count(*) from told;
