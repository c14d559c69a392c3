-- name: name_endpoint
-- Let an endpoint look as if it were elsewhere: $1 endpoint, $2 host and port that it really has, $3 host that is shown.
with shown as (
  update dispatcher.endpoints
  set url = replace(replace(endpoints.url, 'http://', 'https://'), $2, $3)
  where endpoints.id = $1
), tried as (
  update dispatcher.attempts
  set
    request_head = replace(attempts.request_head, $2, $3),
    address = '203.0.113.' || (get_byte(uuid_send($1), 15) % 250 + 1) || ':443'
  where attempts.endpoint_id = $1
)
update dispatcher.mails
set
  subject = replace(replace(mails.subject, 'http://', 'https://'), $2, $3),
  text_body = replace(replace(mails.text_body, 'http://', 'https://'), $2, $3),
  html_body = replace(replace(mails.html_body, 'http://', 'https://'), $2, $3)
where mails.endpoint_id = $1;

-- name: remember_service
-- Make up what the service did: by the minute for two days, by the quarter of an hour for thirty, with more to do by day
-- than by night, and half an hour of trouble, in place of what it really did: $1 how the durations of a hundred attempts are spread over their classes.
insert into dispatcher.service_statistics (
  resolution, start_at,
  answered_2xx, answered_3xx, answered_4xx, answered_5xx, unreachable, blocked,
  delivered, dead, cancelled, latencies, due, oldest_due_seconds, in_flight
)
select
  past.resolution, past.start_at,
  past.calls, 0, (past.calls * 0.006)::bigint, (past.calls * past.trouble)::bigint, (past.calls * 0.003)::bigint, 0,
  past.calls, (past.calls * past.trouble * 0.05 + greatest(0, past.noise - 0.85) * 8)::bigint, 0,
  array(select (past.calls * class.share * (1 + past.trouble) / 100)::integer from unnest($1::integer[]) with ordinality as class (share, place) order by class.place),
  (past.calls * past.trouble * 4 + past.noise * 9)::bigint, past.trouble * 240 + past.noise * 0.8, (past.calls / 400)::integer
from (
  select
    made.resolution, made.start_at, made.noise,
    (least(made.resolution, extract(epoch from now() - made.start_at)) * (9 - 6 * cos((extract(epoch from made.start_at) - 7200) * pi() / 43200) + 2 * made.noise))::bigint as calls,
    case when made.start_at between now() - interval '7 hours' and now() - interval '6.5 hours' then 0.3 else 0.004 + 0.006 * made.noise end as trouble
  from (
    select step.resolution, start_at, (abs(hashint8(extract(epoch from start_at)::bigint)::bigint) % 1000) / 1000.0 as noise
    from (values (60::smallint, interval '2 days'), (900::smallint, interval '30 days')) as step (resolution, span)
    cross join lateral generate_series(
      to_timestamp(floor(extract(epoch from now() - step.span) / step.resolution) * step.resolution),
      to_timestamp(floor(extract(epoch from now()) / step.resolution) * step.resolution),
      make_interval(secs => step.resolution)
    ) as start_at
  ) as made
) as past
on conflict (resolution, start_at) do update
set
  answered_2xx = excluded.answered_2xx, answered_4xx = excluded.answered_4xx, answered_5xx = excluded.answered_5xx,
  unreachable = excluded.unreachable, delivered = excluded.delivered, dead = excluded.dead,
  latencies = excluded.latencies, due = excluded.due, oldest_due_seconds = excluded.oldest_due_seconds;

-- name: remember_endpoint
-- Make up what came of an endpoint's deliveries in the past week: $1 endpoint, $2 how many a quarter of an hour, $3 hours
-- for which it has failed by now.
insert into dispatcher.endpoint_statistics (
  endpoint_id, start_at, answered_2xx, answered_3xx, answered_4xx, answered_5xx, unreachable, blocked, dead
)
select
  $1::uuid, made.start_at,
  case when made.fails then 0 else made.calls end, 0, 0,
  case when made.fails then made.calls / 3 else made.calls / 60 end, 0, 0,
  case when made.fails then made.calls / 20 else 0 end
from (
  select
    start_at, start_at > now() - make_interval(hours => $3::integer) as fails,
    ($2::float8 * (1 - 0.7 * cos((extract(epoch from start_at) - 7200) * pi() / 43200) + (abs(hashtextextended($1::uuid::text || start_at, 0)) % 100) / 200.0))::integer as calls
  from generate_series(
    to_timestamp(floor(extract(epoch from now() - interval '7 days') / 900) * 900),
    to_timestamp(floor(extract(epoch from now()) / 900) * 900) - interval '15 minutes',
    interval '15 minutes'
  ) as start_at
) as made
on conflict do nothing;

-- name: remember_tenants
-- Add the endpoints' week up for their tenants.
insert into dispatcher.tenant_statistics (
  tenant, start_at, answered_2xx, answered_3xx, answered_4xx, answered_5xx, unreachable, blocked, dead
)
select
  endpoints.tenant, endpoint_statistics.start_at, sum(answered_2xx), sum(answered_3xx), sum(answered_4xx),
  sum(answered_5xx), sum(unreachable), sum(blocked), sum(dead)
from dispatcher.endpoint_statistics
join dispatcher.endpoints on endpoints.id = endpoint_statistics.endpoint_id
group by endpoints.tenant, endpoint_statistics.start_at
on conflict do nothing;
