-- name: window
-- Events that were inserted in a window of time, the latest first: $1 from and $2 before these instants, $3 and $4 behind this
-- instant and id, $5 tenant or null, $6 type or null, $7 at most so many, $8 look at no more than that. Without payloads. One row
-- at least, for how many were looked at: as many as $8, and the window is too wide to tell which are the latest.
with walked as materialized (
  select
    outbox.id, outbox.tenant, outbox.event_type, outbox.occurred_at, outbox.inserted_at, outbox.deliver_at,
    outbox.expires_at, outbox.idempotency_key, outbox.ordering_key
  from dispatcher.outbox
  where outbox.inserted_at >= $1
    and outbox.inserted_at < $2
    and (outbox.inserted_at, outbox.id) < ($3, $4)
  limit $8
), fit as (
  select walked.*
  from walked
  where ($5::text is null or walked.tenant = $5)
    and ($6::text is null or walked.event_type = $6)
  order by walked.inserted_at desc, walked.id desc
  limit $7
)
select total.walked, fit.*
from (select count(*) as walked from walked) as total
left join fit on true
order by fit.inserted_at desc, fit.id desc;

-- name: refused_window
-- The same of events that the catalogue refused.
with walked as materialized (
  select refused_events.event_id, refused_events.event_at, refused_events.tenant, refused_events.event_type
  from dispatcher.refused_events
  where refused_events.event_at >= $1
    and refused_events.event_at < $2
    and (refused_events.event_at, refused_events.event_id) < ($3, $4)
  limit $8
), fit as (
  select walked.*
  from walked
  where ($5::text is null or walked.tenant = $5)
    and ($6::text is null or walked.event_type = $6)
  order by walked.event_at desc, walked.event_id desc
  limit $7
)
select
  total.walked,
  found.id, found.tenant, found.event_type, found.occurred_at, found.inserted_at, found.deliver_at, found.expires_at,
  found.idempotency_key, found.ordering_key
from (select count(*) as walked from walked) as total
left join fit on true
left join lateral (
  select *
  from dispatcher.outbox
  where outbox.id = fit.event_id
    and outbox.inserted_at = fit.event_at
  limit 1
) as found on true
order by found.inserted_at desc, found.id desc;

-- name: fates
-- What became of events, in their order: $1 ids, $2 inserted at, $3 endpoints that count, or null (all), $4 stop counting there.
select
  coalesce(pending.count, 0) as pending,
  coalesce(finished.delivered, 0) as delivered,
  coalesce(finished.dead, 0) as dead,
  coalesce(finished.cancelled, 0) as cancelled,
  exists (
    select
    from dispatcher.unmatched_events
    where unmatched_events.event_id = wanted.id
      and unmatched_events.event_at = wanted.inserted_at
  ) as unmatched,
  refused.recorded_at as refused_at,
  refused.reason as refused_because
from unnest($1::uuid[], $2::timestamptz[]) with ordinality as wanted (id, inserted_at, place)
left join lateral (
  select count(*) as count
  from (
    select
    from dispatcher.deliveries
    where deliveries.event_id = wanted.id
      and ($3::uuid[] is null or deliveries.endpoint_id = any ($3))
    limit $4
  ) as counted
) as pending on true
left join lateral (
  select
    count(*) filter (where counted.state = 'delivered') as delivered,
    count(*) filter (where counted.state = 'dead') as dead,
    count(*) filter (where counted.state = 'cancelled') as cancelled
  from (
    select finished_deliveries.state
    from dispatcher.finished_deliveries
    where finished_deliveries.event_id = wanted.id
      and finished_deliveries.finished_at >= wanted.inserted_at
      and ($3::uuid[] is null or finished_deliveries.endpoint_id = any ($3))
    limit $4
  ) as counted
) as finished on true
left join lateral (
  select refused_events.recorded_at, refused_events.reason
  from dispatcher.refused_events
  where refused_events.event_id = wanted.id
    and refused_events.event_at = wanted.inserted_at
  limit 1
) as refused on true
order by wanted.place;
