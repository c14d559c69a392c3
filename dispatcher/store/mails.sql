-- name: all
-- A walk: mails of all endpoints, the latest first: $4 and $5 before this instant and id, $6 at most so many.
select
  mails.id, mails.endpoint_id, mails.kind, mails.message_id, mails.recipients, mails.waiting, mails.refused, mails.subject,
  mails.notices, mails.created_at, mails.due_at, mails.attempts, mails.sent_at, mails.given_up_at, mails.last_error
from dispatcher.mails
where mails.created_at <= $4
  and (mails.created_at, mails.id) < ($4, $5)
order by mails.created_at desc, mails.id desc
limit $6;

-- name: of_endpoints
-- The same walk of some endpoints, no more than so many of each kind of each: $7 endpoints, $8 kinds.
select picked.*
from unnest($7::uuid[]) as addressed (endpoint_id)
cross join unnest($8::text[]) as wanted (kind)
cross join lateral (
  select
    mails.id, mails.endpoint_id, mails.kind, mails.message_id, mails.recipients, mails.waiting, mails.refused,
    mails.subject, mails.notices, mails.created_at, mails.due_at, mails.attempts, mails.sent_at, mails.given_up_at,
    mails.last_error
  from dispatcher.mails
  where mails.endpoint_id = addressed.endpoint_id
    and mails.kind = wanted.kind
    and mails.created_at <= $4
    and (mails.created_at, mails.id) < ($4, $5)
  order by mails.created_at desc, mails.id desc
  limit $6
) as picked
order by picked.created_at desc, picked.id desc
limit $6;

-- name: sift
-- What passes the filters among what a walk finds (its statement stands in the place of `walk`), and how far it came: $1 kind,
-- $2 state, each null: no matter; $3 at most so many.
with walked as materialized (
  select ordered.*, row_number() over () as place
  from (
    /* walk */
  ) as ordered
), edge as (
  select walked.place, walked.id, walked.created_at
  from walked
  order by walked.place desc
  limit 1
), fit as (
  select walked.*
  from walked
  where ($1::text is null or walked.kind = $1)
    and (
      $2::text is null
      or $2 = case
        when walked.sent_at is not null then 'sent'
        when walked.given_up_at is not null then 'given_up'
        else 'waiting'
      end
    )
  order by walked.place
  limit $3
)
select
  edge.place as walked, edge.id as edge_id, edge.created_at as edge_at,
  fit.id, fit.endpoint_id, fit.kind, fit.message_id, fit.recipients, fit.waiting, fit.refused, fit.subject, fit.notices,
  fit.created_at, fit.due_at, fit.attempts, fit.sent_at, fit.given_up_at, fit.last_error,
  endpoints.tenant, endpoints.url
from edge
left join fit on true
left join dispatcher.endpoints on endpoints.id = fit.endpoint_id
order by fit.place;

-- name: one
-- A mail, whole: $1 id.
select
  mails.id, mails.endpoint_id, mails.kind, mails.message_id, mails.recipients, mails.waiting, mails.refused, mails.subject,
  mails.notices, mails.created_at, mails.due_at, mails.attempts, mails.sent_at, mails.given_up_at, mails.last_error,
  mails.text_body, mails.html_body, endpoints.tenant, endpoints.url
from dispatcher.mails
join dispatcher.endpoints on endpoints.id = mails.endpoint_id
where mails.id = $1;

-- name: notices_in
-- The notices that a mail tells of, the newest first: $1 mail, $2 at most so many.
select told.*
from (
  select *
  from dispatcher.notices
  where notices.mail_id = $1
  offset 0 -- by the mail's index
) as told
order by told.id desc
limit $2;

-- name: waiting_notices
-- What is not in a mail yet, by endpoint and kind: $1 endpoints or null (all), $2 at most so many
-- endpoints, $3 stop counting there, $4 kinds. Steps from endpoint to endpoint along the index.
with recursive step (endpoint_id, number) as (
  (
    select notices.endpoint_id, 1
    from dispatcher.notices
    where notices.mail_id is null
      and $1::uuid[] is null
    order by notices.endpoint_id
    limit 1
  )
  union all
  select next.endpoint_id, step.number + 1
  from step
  cross join lateral (
    select notices.endpoint_id
    from dispatcher.notices
    where notices.mail_id is null
      and notices.endpoint_id > step.endpoint_id
    order by notices.endpoint_id
    limit 1
  ) as next
  where step.number < $2
), addressed as (
  select step.endpoint_id
  from step
  union all
  (
    select given.endpoint_id
    from unnest($1::uuid[]) as given (endpoint_id)
    where exists (
      select
      from dispatcher.notices
      where notices.mail_id is null
        and notices.endpoint_id = given.endpoint_id
    )
    limit $2
  )
)
select
  addressed.endpoint_id, wanted.kind, endpoints.tenant, endpoints.url, counted.count, counted.oldest_at, counted.newest_at
from addressed
join dispatcher.endpoints on endpoints.id = addressed.endpoint_id
cross join unnest($4::text[]) as wanted (kind)
cross join lateral (
  select count(*) as count, min(written.created_at) as oldest_at, max(written.created_at) as newest_at
  from (
    select notices.created_at
    from dispatcher.notices
    where notices.mail_id is null
      and notices.endpoint_id = addressed.endpoint_id
      and notices.kind = wanted.kind
    order by notices.id
    limit $3
  ) as written
) as counted
where counted.count > 0
order by addressed.endpoint_id, wanted.kind;
