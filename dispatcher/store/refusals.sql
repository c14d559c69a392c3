-- name: refuse
-- Take unread events out of fan-out's way, and say why: $1 shards, $2 positions, $3 reasons, $4 now. One that is no longer
-- unread (a worker that lost its lease came late) is left alone.
with gone as (
  delete from dispatcher.outbox_unread
  where outbox_unread.ctid = any (array( -- as in fan_out: the planner must not begin with all of the table
    select found.ctid
    from unnest($1::smallint[], $2::bigint[]) as given (shard, position)
    cross join lateral (
      select outbox_unread.ctid
      from dispatcher.outbox_unread
      where outbox_unread.shard = given.shard
        and outbox_unread.position = given.position
      limit 1
    ) as found
  ))
  returning outbox_unread.shard, outbox_unread.position, outbox_unread.event_id, outbox_unread.event_at,
    outbox_unread.tenant, outbox_unread.event_type
)
insert into dispatcher.refused_events (event_id, event_at, tenant, event_type, recorded_at, reason)
select gone.event_id, gone.event_at, gone.tenant, gone.event_type, coalesce($4, now()), given.reason
from gone
join unnest($1::smallint[], $2::bigint[], $3::text[]) as given (shard, position, reason)
  on given.shard = gone.shard and given.position = gone.position;

-- name: readmit
-- Let fan-out read a refused event again: $1 id, $2 inserted at. Says whether it was refused.
with released as (
  delete from dispatcher.refused_events
  where refused_events.event_id = $1
    and refused_events.event_at = $2
  returning refused_events.event_id, refused_events.event_at
)
insert into dispatcher.outbox_unread
  (shard, event_id, event_at, tenant, event_type, deliver_at, expires_at, ordering_key)
select
  outbox.shard, outbox.id, outbox.inserted_at, outbox.tenant, outbox.event_type, outbox.deliver_at, outbox.expires_at,
  outbox.ordering_key
from dispatcher.outbox
join released on released.event_id = outbox.id and released.event_at = outbox.inserted_at
where outbox.id = $1
  and outbox.inserted_at = $2
returning true;
