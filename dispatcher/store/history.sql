-- name: event
-- An event: $1 id. An id that a producer used twice leads to the later one.
select
  outbox.id, outbox.tenant, outbox.event_type, outbox.payload, outbox.occurred_at, outbox.inserted_at, outbox.deliver_at,
  outbox.expires_at, outbox.idempotency_key, outbox.ordering_key, outbox.shard,
  refused.recorded_at as refused_at, refused.reason as refused_because
from dispatcher.outbox
left join dispatcher.refused_events as refused on refused.event_id = outbox.id and refused.event_at = outbox.inserted_at
where outbox.id = $1
order by outbox.inserted_at desc
limit 1;

-- name: events
-- Events inserted since an instant, the latest ids first: $1 since, $2 at most so many.
select
  picked.id, picked.tenant, picked.event_type, picked.payload, picked.occurred_at, picked.inserted_at, picked.deliver_at,
  picked.expires_at, picked.idempotency_key, picked.ordering_key, picked.shard,
  refused.recorded_at as refused_at, refused.reason as refused_because
from (
  select *
  from dispatcher.outbox
  where outbox.inserted_at >= $1
  order by outbox.id desc
  limit $2
) as picked
left join dispatcher.refused_events as refused
  on refused.event_id = picked.id and refused.event_at = picked.inserted_at
order by picked.id desc;

-- name: events_of
-- The same of a tenant, of a type: $1 since, $2 at most so many, $3 tenant or null, $4 type or null.
select
  picked.id, picked.tenant, picked.event_type, picked.payload, picked.occurred_at, picked.inserted_at, picked.deliver_at,
  picked.expires_at, picked.idempotency_key, picked.ordering_key, picked.shard,
  refused.recorded_at as refused_at, refused.reason as refused_because
from (
  select *
  from dispatcher.outbox
  where outbox.inserted_at >= $1
    and (outbox.tenant = $3 or $3 is null)
    and (outbox.event_type = $4 or $4 is null)
  order by outbox.id desc
  limit $2
) as picked
left join dispatcher.refused_events as refused
  on refused.event_id = picked.id and refused.event_at = picked.inserted_at
order by picked.id desc;

-- name: refused
-- Events that the catalogue refused, the latest refusals first: $1 inserted since, $2 at most so many, $3 tenant or null,
-- $4 type or null.
select
  outbox.id, outbox.tenant, outbox.event_type, outbox.payload, outbox.occurred_at, outbox.inserted_at, outbox.deliver_at,
  outbox.expires_at, outbox.idempotency_key, outbox.ordering_key, outbox.shard,
  refused.recorded_at as refused_at, refused.reason as refused_because
from (
  select *
  from dispatcher.refused_events
  where refused_events.event_at >= $1
    and (refused_events.tenant = $3 or $3 is null)
    and (refused_events.event_type = $4 or $4 is null)
  order by refused_events.recorded_at desc, refused_events.event_id desc
  limit $2
) as refused
join dispatcher.outbox on outbox.id = refused.event_id and outbox.inserted_at = refused.event_at
order by refused.recorded_at desc, refused.event_id desc;

-- name: is_unread
-- Whether fan-out has yet to read an event: $1 shard, $2 id.
select exists (
  select from dispatcher.outbox_unread where outbox_unread.shard = $1 and outbox_unread.event_id = $2
);

-- name: is_unmatched
-- Whether no endpoint wanted an event when it was read: $1 id, $2 inserted at.
select exists (
  select from dispatcher.unmatched_events where unmatched_events.event_id = $1 and unmatched_events.event_at = $2
);

-- name: pending
-- A pending delivery: $1 id.
select
  deliveries.id, deliveries.endpoint_id, deliveries.event_id, deliveries.event_at, deliveries.created_at,
  deliveries.attempts, deliveries.manual, 'pending' as state,
  nullif(deliveries.due_at, 'infinity') as due_at, deliveries.expires_at, deliveries.ordering_key,
  null::timestamptz as finished_at, null::text as reason, null::smallint as status, null::text as error,
  deliveries.shard, endpoints.tenant, endpoints.url, outbox.event_type
from dispatcher.deliveries
join dispatcher.endpoints on endpoints.id = deliveries.endpoint_id
left join dispatcher.outbox on outbox.id = deliveries.event_id and outbox.inserted_at = deliveries.event_at
where deliveries.id = $1;

-- name: finished
-- A finished delivery: $1 id.
select
  finished.id, finished.endpoint_id, finished.event_id, finished.event_at, finished.created_at,
  finished.attempts, finished.manual, finished.state,
  null::timestamptz as due_at, null::timestamptz as expires_at, null::text as ordering_key,
  finished.finished_at, finished.reason, finished.status, finished.error,
  finished.shard, endpoints.tenant, endpoints.url, outbox.event_type
from dispatcher.finished_deliveries as finished
join dispatcher.endpoints on endpoints.id = finished.endpoint_id
left join dispatcher.outbox on outbox.id = finished.event_id and outbox.inserted_at = finished.event_at
where finished.id = $1;

-- name: pending_of_event
-- Pending deliveries of an event, the newest first: $1 event.
select
  deliveries.id, deliveries.endpoint_id, deliveries.event_id, deliveries.event_at, deliveries.created_at,
  deliveries.attempts, deliveries.manual, 'pending' as state,
  nullif(deliveries.due_at, 'infinity') as due_at, deliveries.expires_at, deliveries.ordering_key,
  null::timestamptz as finished_at, null::text as reason, null::smallint as status, null::text as error,
  deliveries.shard, endpoints.tenant, endpoints.url, outbox.event_type
from dispatcher.deliveries
join dispatcher.endpoints on endpoints.id = deliveries.endpoint_id
left join dispatcher.outbox on outbox.id = deliveries.event_id and outbox.inserted_at = deliveries.event_at
where deliveries.event_id = $1
order by deliveries.id desc;

-- name: finished_of_event
-- Finished deliveries of an event, the newest first: $1 event.
select
  finished.id, finished.endpoint_id, finished.event_id, finished.event_at, finished.created_at,
  finished.attempts, finished.manual, finished.state,
  null::timestamptz as due_at, null::timestamptz as expires_at, null::text as ordering_key,
  finished.finished_at, finished.reason, finished.status, finished.error,
  finished.shard, endpoints.tenant, endpoints.url, outbox.event_type
from dispatcher.finished_deliveries as finished
join dispatcher.endpoints on endpoints.id = finished.endpoint_id
left join dispatcher.outbox on outbox.id = finished.event_id and outbox.inserted_at = finished.event_at
where finished.event_id = $1
order by finished.id desc;

-- name: pending_of_endpoints
-- Pending deliveries of some endpoints, the soonest due first: $1 endpoints, $2 their shards, $3 and $4 behind this due_at
-- and id, $5 at most so many. Reads no more than that of each lane.
select
  waiting.id, waiting.endpoint_id, waiting.event_id, waiting.event_at, waiting.created_at,
  waiting.attempts, waiting.manual, 'pending' as state,
  nullif(waiting.due_at, 'infinity') as due_at, waiting.expires_at, waiting.ordering_key,
  null::timestamptz as finished_at, null::text as reason, null::smallint as status, null::text as error,
  waiting.shard, endpoints.tenant, endpoints.url, outbox.event_type
from (
  select picked.*
  from unnest($1::uuid[], $2::smallint[]) as lane (endpoint_id, shard)
  cross join lateral (
    select *
    from dispatcher.deliveries
    where deliveries.shard = lane.shard
      and deliveries.endpoint_id = lane.endpoint_id
      and (deliveries.due_at, deliveries.id) > ($3, $4)
    order by deliveries.due_at, deliveries.id
    limit $5
  ) as picked
  order by picked.due_at, picked.id
  limit $5
) as waiting
join dispatcher.endpoints on endpoints.id = waiting.endpoint_id
left join dispatcher.outbox on outbox.id = waiting.event_id and outbox.inserted_at = waiting.event_at
order by waiting.due_at, waiting.id;

-- name: finished_of_endpoints
-- Finished deliveries of some endpoints, the latest first: $1 endpoints, $2 and $3 behind this finished_at and id, $4 at
-- most so many.
select
  ended.id, ended.endpoint_id, ended.event_id, ended.event_at, ended.created_at,
  ended.attempts, ended.manual, ended.state,
  null::timestamptz as due_at, null::timestamptz as expires_at, null::text as ordering_key,
  ended.finished_at, ended.reason, ended.status, ended.error,
  ended.shard, endpoints.tenant, endpoints.url, outbox.event_type
from (
  select picked.*
  from unnest($1::uuid[]) as lane (endpoint_id)
  cross join lateral (
    select *
    from dispatcher.finished_deliveries as finished
    where finished.endpoint_id = lane.endpoint_id
      and (finished.finished_at, finished.id) < ($2, $3)
    order by finished.finished_at desc, finished.id desc
    limit $4
  ) as picked
  order by picked.finished_at desc, picked.id desc
  limit $4
) as ended
join dispatcher.endpoints on endpoints.id = ended.endpoint_id
left join dispatcher.outbox on outbox.id = ended.event_id and outbox.inserted_at = ended.event_at
order by ended.finished_at desc, ended.id desc;

-- name: undelivered_of_endpoints
-- The same for one state that is neither pending nor delivered: $5 state.
select
  ended.id, ended.endpoint_id, ended.event_id, ended.event_at, ended.created_at,
  ended.attempts, ended.manual, ended.state,
  null::timestamptz as due_at, null::timestamptz as expires_at, null::text as ordering_key,
  ended.finished_at, ended.reason, ended.status, ended.error,
  ended.shard, endpoints.tenant, endpoints.url, outbox.event_type
from (
  select picked.*
  from unnest($1::uuid[]) as lane (endpoint_id)
  cross join lateral (
    select *
    from dispatcher.finished_deliveries as finished
    where finished.endpoint_id = lane.endpoint_id
      and finished.state = $5
      and finished.state <> 'delivered'
      and (finished.finished_at, finished.id) < ($2, $3)
    order by finished.finished_at desc, finished.id desc
    limit $4
  ) as picked
  order by picked.finished_at desc, picked.id desc
  limit $4
) as ended
join dispatcher.endpoints on endpoints.id = ended.endpoint_id
left join dispatcher.outbox on outbox.id = ended.event_id and outbox.inserted_at = ended.event_at
order by ended.finished_at desc, ended.id desc;

-- name: delivered_of_endpoints
-- The same for delivered ones.
select
  ended.id, ended.endpoint_id, ended.event_id, ended.event_at, ended.created_at,
  ended.attempts, ended.manual, ended.state,
  null::timestamptz as due_at, null::timestamptz as expires_at, null::text as ordering_key,
  ended.finished_at, ended.reason, ended.status, ended.error,
  ended.shard, endpoints.tenant, endpoints.url, outbox.event_type
from (
  select picked.*
  from unnest($1::uuid[]) as lane (endpoint_id)
  cross join lateral (
    select *
    from dispatcher.finished_deliveries as finished
    where finished.endpoint_id = lane.endpoint_id
      and finished.state = 'delivered'
      and (finished.finished_at, finished.id) < ($2, $3)
    order by finished.finished_at desc, finished.id desc
    limit $4
  ) as picked
  order by picked.finished_at desc, picked.id desc
  limit $4
) as ended
join dispatcher.endpoints on endpoints.id = ended.endpoint_id
left join dispatcher.outbox on outbox.id = ended.event_id and outbox.inserted_at = ended.event_at
order by ended.finished_at desc, ended.id desc;

-- name: lanes
-- Endpoints with their shards, archived ones too, whose deliveries are asked for: $1 endpoint or null, $2 tenant or null.
select endpoints.id, endpoints.shard
from dispatcher.endpoints
where (endpoints.id = $1 or $1 is null)
  and (endpoints.tenant = $2 or $2 is null);

-- name: attempts
-- The attempts of some deliveries, in order: $1 deliveries.
select
  delivery_id, number, started_at, milliseconds, outcome, status, verdict, error, address, next_attempt_at,
  response_headers, response_body, response_cut, response_size, request_head, request_size, request_sha256, signed_with,
  reused, lookup_milliseconds, connect_milliseconds, tls_milliseconds, first_byte_milliseconds, worker
from dispatcher.attempts
where attempts.delivery_id = any ($1::bigint[])
order by attempts.delivery_id, attempts.number;

-- name: who_wants
-- Some endpoints, and whether each is subscribed to a type: $1 ids, $2 type.
select
  endpoints.id,
  exists (
    select
    from dispatcher.subscriptions
    where subscriptions.endpoint_id = endpoints.id
      and subscriptions.pattern = any (dispatcher.patterns_of($2))
  ) as subscribed
from dispatcher.endpoints
where endpoints.id = any ($1::uuid[])
order by endpoints.id;

-- name: filtered
-- The endpoints whose filter did not say yes to an event, and why it failed, null if it said no: $1 id, $2 inserted at.
select filtered_events.endpoint_id, filtered_events.fault
from dispatcher.filtered_events
where filtered_events.event_id = $1
  and filtered_events.event_at = $2;

-- name: is_owned
-- Whether a live worker owns a shard, and what time it is: $1 shard, $2 now.
select
  exists (
    select
    from dispatcher.shard_leases
    where shard_leases.shard = $1
      and shard_leases.owner is not null
      and shard_leases.expires_at > coalesce($2, now())
  ) as owned,
  exists (select from dispatcher.workers where workers.expires_at > coalesce($2, now())) as any_worker,
  coalesce($2, now()) as now;
