-- name: insert_event
-- Send an event, as a producer does: $1 id or null, $2 tenant, $3 type, $4 payload, $5 occurred at or null, $6 deliver at,
-- $7 expires at, $8 idempotency key, $9 ordering key. No row if the idempotency key was used.
insert into dispatcher.outbox
  (id, tenant, event_type, payload, occurred_at, deliver_at, expires_at, idempotency_key, ordering_key)
values
  (coalesce($1, dispatcher.uuid_v7()), $2, $3, $4::text::json, coalesce($5, now()), $6, $7, $8, $9)
returning outbox.id, outbox.inserted_at, outbox.shard;

-- name: insert_events
-- Send many events, arrays as for insert_event: $1 ids or nulls, $2 tenants, $3 types, $4 payloads, $5 occurred at or
-- nulls, $6 deliver at, $7 expires at, $8 idempotency keys, $9 ordering keys. Each one's id in their order, null if its
-- idempotency key was used.
with given as materialized (
  select
    coalesce(given.id, dispatcher.uuid_v7()) as id, given.tenant, given.event_type, given.payload, given.occurred_at,
    given.deliver_at, given.expires_at, given.idempotency_key, given.ordering_key, given.place
  from unnest(
    $1::uuid[], $2::text[], $3::text[], $4::text[], $5::timestamptz[], $6::timestamptz[], $7::timestamptz[],
    $8::text[], $9::text[]
  ) with ordinality as given (
    id, tenant, event_type, payload, occurred_at, deliver_at, expires_at, idempotency_key, ordering_key, place
  )
), inserted as (
  insert into dispatcher.outbox
    (id, tenant, event_type, payload, occurred_at, deliver_at, expires_at, idempotency_key, ordering_key)
  select
    id, tenant, event_type, payload::json, coalesce(occurred_at, now()), deliver_at, expires_at, idempotency_key,
    ordering_key
  from given
  order by given.place
  returning outbox.id
)
select inserted.id
from given
left join inserted on inserted.id = given.id
order by given.place;

-- name: take_unread
-- Keep the event that this transaction has just inserted from fan-out: $1 shard, $2 event. It is among the last of its
-- shard, so it is found from the end, however many there are.
delete from dispatcher.outbox_unread
where outbox_unread.shard = $1
  and outbox_unread.position = (
    select latest.position
    from dispatcher.outbox_unread as latest
    where latest.shard = $1
      and latest.event_id = $2
    order by latest.position desc
    limit 1
  )
returning outbox_unread.event_id;

-- name: insert_delivery
-- Make a delivery by hand, due at once: $1 endpoint, $2 event, $3 its inserted_at, $4 now, $5 a notice if it fails.
insert into dispatcher.deliveries (endpoint_id, event_id, event_at, created_at, due_at, shard, manual, notify)
select endpoints.id, $2, $3, coalesce($4, now()), coalesce($4, now()), endpoints.shard, true, $5
from dispatcher.endpoints
where endpoints.id = $1
returning deliveries.id;

-- name: make_due
-- Let a pending delivery be due at once, unless it waits for an earlier one: $1 id, $2 shard, $3 now, $4 a notice if it fails.
update dispatcher.deliveries
set due_at = least(deliveries.due_at, coalesce($3, now())), notify = deliveries.notify or $4
where deliveries.id = $1
  and deliveries.shard = $2
  and deliveries.due_at < 'infinity'
returning deliveries.id;

-- name: cancel
-- Give up a pending delivery: $1 id, $2 shard, $3 now.
with removed as (
  delete from dispatcher.deliveries
  where deliveries.id = $1
    and deliveries.shard = $2
  returning deliveries.*
)
insert into dispatcher.finished_deliveries
  (id, endpoint_id, event_id, event_at, created_at, finished_at, shard, attempts, manual, state)
select id, endpoint_id, event_id, event_at, created_at, coalesce($3, now()), shard, attempts, manual, 'cancelled'
from removed
returning id;
