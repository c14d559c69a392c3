-- name: write
-- Write notices, those that somebody gets: $1 kinds, $2 endpoints, $3 deliveries, $4 events, $5 event types,
-- $6 attempts, $7 first and $8 last attempts (unix seconds), $9 reasons, $10 statuses, $11 errors, $12 answers,
-- $13 deadlines (unix seconds), $14 how many deliveries died with the endpoint, $15 now. An endpoint without a
-- notification address gets none, and a recovery is told only to who was told of the trouble.
insert into dispatcher.notices
  (kind, endpoint_id, delivery_id, event_id, event_type, attempts, first_attempt_at, last_attempt_at, reason, status,
   error, answer, deadline, deliveries, created_at)
select
  fresh.kind, fresh.endpoint_id, fresh.delivery_id, fresh.event_id, fresh.event_type, fresh.attempts,
  to_timestamp(fresh.first_attempt_at), to_timestamp(fresh.last_attempt_at), fresh.reason, fresh.status,
  fresh.error, fresh.answer, to_timestamp(fresh.deadline), fresh.deliveries, coalesce($15, now())
from unnest(
  $1::text[], $2::uuid[], $3::bigint[], $4::uuid[], $5::text[], $6::smallint[], $7::float8[], $8::float8[], $9::text[],
  $10::smallint[], $11::text[], $12::text[], $13::float8[], $14::integer[]
) with ordinality as fresh (
  kind, endpoint_id, delivery_id, event_id, event_type, attempts, first_attempt_at, last_attempt_at, reason,
  status, error, answer, deadline, deliveries, place
)
join dispatcher.endpoints on endpoints.id = fresh.endpoint_id
where endpoints.notification_email is not null
  and (
    fresh.kind <> 'endpoint_recovered'
    or (
      select earlier.kind
      from dispatcher.notices as earlier
      where earlier.endpoint_id = fresh.endpoint_id
        and earlier.kind <> 'deliveries_dead'
      order by earlier.id desc
      limit 1
    ) in ('endpoint_failing', 'endpoint_disabled')
  )
order by fresh.place;

-- name: lock_folding
-- Whether this transaction may fold; until it ends no other one may. What is read in a later statement is then final.
select pg_try_advisory_xact_lock(730203, 2);

-- name: foldable
-- Endpoints and kinds with notices to fold now: $1 seconds between two digests of deaths, $2 at most so many, $3 now.
-- Jumps from group to group along the index, so that 10,000 notices of one endpoint cost as much as one. A digest also
-- waits until the mail before it has reached the notification address: after an outage one long mail is better than many.
with recursive waiting as (
  (
    select notices.endpoint_id, notices.kind
    from dispatcher.notices
    where notices.mail_id is null
    order by notices.endpoint_id, notices.kind
    limit 1
  )
  union all
  select next.endpoint_id, next.kind
  from waiting
  cross join lateral (
    select notices.endpoint_id, notices.kind
    from dispatcher.notices
    where notices.mail_id is null
      and (notices.endpoint_id, notices.kind) > (waiting.endpoint_id, waiting.kind)
    order by notices.endpoint_id, notices.kind
    limit 1
  ) as next
)
select
  dispatcher.uuid_v7() as mail_id,
  waiting.kind,
  endpoints.id as endpoint_id,
  endpoints.shard,
  endpoints.tenant,
  endpoints.url,
  endpoints.description,
  endpoints.disabled_at,
  array[endpoints.notification_email] || endpoints.additional_notification_emails as recipients
from waiting
join dispatcher.endpoints on endpoints.id = waiting.endpoint_id
left join lateral (
  select
    mails.created_at,
    mails.recipients[1] = any (mails.waiting) and mails.recipients[1] = endpoints.notification_email as unsent
  from dispatcher.mails
  where mails.endpoint_id = waiting.endpoint_id
    and mails.kind = 'deliveries_dead'
  order by mails.created_at desc
  limit 1
) as last on waiting.kind = 'deliveries_dead'
where endpoints.notification_email is not null
  and (
    last.created_at is null
    or (not last.unsent and last.created_at <= coalesce($3, now()) - make_interval(secs => $1))
  )
limit $2;

-- name: fold
-- Give the notices of one endpoint and kind to a mail: $1 mail, $2 endpoint, $3 kind, $4 at most so many, the oldest.
with folded as (
  update dispatcher.notices
  set mail_id = $1
  where notices.endpoint_id = $2
    and notices.kind = $3
    and notices.mail_id is null
    and notices.id < coalesce(
      (
        select beyond.id
        from dispatcher.notices as beyond
        where beyond.endpoint_id = $2
          and beyond.kind = $3
          and beyond.mail_id is null
        order by beyond.id
        offset $4
        limit 1
      ),
      9223372036854775807
    )
  returning notices.first_attempt_at, notices.last_attempt_at, notices.created_at
)
select
  count(*) as count,
  min(folded.first_attempt_at) as first_attempt_at,
  max(folded.last_attempt_at) as last_attempt_at,
  min(folded.created_at) as first_at,
  max(folded.created_at) as last_at
from folded;

-- name: types_in
-- How many notices of each event type a mail holds, the most frequent first: $1 mail, $2 at most so many types.
select
  notices.event_type,
  count(*) as count,
  count(*) over () as types
from dispatcher.notices
where notices.mail_id = $1
group by notices.event_type
order by count(*) desc, notices.event_type
limit $2;

-- name: newest_in
-- The newest notices of a mail: $1 mail, $2 at most so many. A delivery that died without a last attempt (it expired, or
-- could not be tried for too long) is told of with what its attempts before came to.
select
  notices.id,
  notices.endpoint_id,
  notices.kind,
  notices.delivery_id,
  notices.event_id,
  notices.event_type,
  notices.attempts,
  coalesce(notices.first_attempt_at, tried.first_at) as first_attempt_at,
  coalesce(notices.last_attempt_at, tried.last_at) as last_attempt_at,
  notices.reason,
  coalesce(notices.status, tried.status) as status,
  coalesce(notices.error, tried.error) as error,
  notices.answer,
  notices.deadline,
  notices.deliveries,
  notices.created_at,
  notices.mail_id
from dispatcher.notices
left join lateral (
  select
    min(attempts.started_at) as first_at,
    max(attempts.started_at) as last_at,
    (array_agg(attempts.status order by attempts.started_at desc))[1] as status,
    (array_agg(attempts.error order by attempts.started_at desc))[1] as error
  from dispatcher.attempts
  where attempts.delivery_id = notices.delivery_id
) as tried on notices.attempts > 0 and notices.last_attempt_at is null
where notices.mail_id = $1
order by notices.id desc
limit $2;

-- name: died_with
-- How many deliveries die because their endpoint was disabled: those that have, and those that are still pending.
-- $1 endpoint, $2 its shard, $3 when it was disabled, $4 stop counting each at so many.
select (
  select count(*)
  from (
    select
    from dispatcher.finished_deliveries
    where finished_deliveries.endpoint_id = $1
      and finished_deliveries.state = 'dead'
      and finished_deliveries.finished_at >= $3
      and finished_deliveries.reason in ('endpoint_disabled', 'gone')
    limit $4
  ) as dead
) + (
  select count(*)
  from (
    select
    from dispatcher.deliveries
    where deliveries.shard = $2
      and deliveries.endpoint_id = $1
    limit $4
  ) as doomed
);

-- name: add_mail
-- Queue a mail: $1 id, $2 endpoint, $3 kind, $4 Message-ID, $5 recipients, $6 subject, $7 text, $8 HTML, $9 how many
-- notices it tells of, $10 now.
insert into dispatcher.mails
  (id, endpoint_id, kind, message_id, recipients, waiting, subject, text_body, html_body, notices, created_at, due_at)
values ($1, $2, $3, $4, $5, $5, $6, $7, $8, $9, coalesce($10, now()), coalesce($10, now()));

-- name: claim_mails
-- Take mails that are due, the longest due first: $1 at most so many, $2 for so many seconds, $3 now.
with due as (
  select mails.id
  from dispatcher.mails
  where mails.sent_at is null
    and mails.given_up_at is null
    and mails.due_at <= coalesce($3, now())
    and (mails.claimed_until is null or mails.claimed_until <= coalesce($3, now()))
  order by mails.due_at, mails.id
  limit $1
  for update skip locked
), claimed as (
  update dispatcher.mails
  set claimed_until = coalesce($3, now()) + make_interval(secs => $2)
  from due
  where mails.id = due.id
  returning mails.*
)
select *
from claimed
order by claimed.due_at, claimed.id;

-- name: renew_mails
-- Keep claimed mails for longer: $1 ids, $2 for so many seconds, $3 now. A claim that has ended is somebody else's to take.
update dispatcher.mails
set claimed_until = coalesce($3, now()) + make_interval(secs => $2)
where mails.id = any ($1::uuid[])
  and mails.claimed_until > coalesce($3, now());

-- name: settle_mail
-- Write down what came of sending a mail: $1 its id, $2 recipients that were accepted, $3 refused, $4 the error or null,
-- $5 seconds until those left are tried again, $6 now. One that is finished stays so, whoever comes late.
with tried as (
  select
    mails.id,
    array(
      select left_over.address
      from unnest(mails.waiting) with ordinality as left_over (address, place)
      where left_over.address <> all ($2::text[] || $3::text[])
      order by left_over.place
    ) as waiting,
    mails.refused || $3::text[] as refused
  from dispatcher.mails
  where mails.id = $1
    and mails.sent_at is null
    and mails.given_up_at is null
  for update
)
update dispatcher.mails
set
  waiting = tried.waiting,
  refused = tried.refused,
  attempts = least(mails.attempts + 1, 32767),
  claimed_until = null,
  due_at = coalesce($6, now()) + make_interval(secs => $5),
  last_error = coalesce($4, mails.last_error),
  sent_at = case
    when cardinality(tried.waiting) = 0 and cardinality(tried.refused) < cardinality(mails.recipients)
    then coalesce($6, now())
  end,
  given_up_at = case
    when cardinality(tried.waiting) = 0 and cardinality(tried.refused) >= cardinality(mails.recipients)
    then coalesce($6, now())
  end
from tried
where mails.id = tried.id;

-- name: release_mails
-- Give back mails that were claimed and not tried: $1 ids.
update dispatcher.mails
set claimed_until = null
where mails.id = any ($1::uuid[])
  and mails.sent_at is null
  and mails.given_up_at is null;

-- name: list_mails
-- Mails for people, the newest first: $1 endpoint or null, $2 only unfinished ones, $3 made before (instant) or null,
-- $4 at most so many.
select *
from dispatcher.mails
where ($1::uuid is null or mails.endpoint_id = $1)
  and (not $2 or (mails.sent_at is null and mails.given_up_at is null))
  and ($3::timestamptz is null or mails.created_at < $3)
order by mails.created_at desc, mails.id desc
limit $4;

-- name: list_notices
-- Notices for people, the newest first: $1 endpoint or null, $2 mail or null, $3 only those not yet in a mail, $4 with an
-- id below this one or null, $5 at most so many.
select *
from dispatcher.notices
where ($1::uuid is null or notices.endpoint_id = $1)
  and ($2::uuid is null or notices.mail_id = $2)
  and (not $3 or notices.mail_id is null)
  and ($4::bigint is null or notices.id < $4)
order by notices.id desc
limit $5;

-- name: figures
-- What waits: $1 stop counting at so many, $2 now.
select
  (
    select count(*)
    from (select from dispatcher.notices where notices.mail_id is null limit $1) as unfolded
  ) as notices_waiting,
  count(*) as mails_waiting,
  coalesce(extract(epoch from coalesce($2, now()) - min(unsent.created_at)), 0)::float8 as oldest_unsent_age
from (
  select mails.created_at
  from dispatcher.mails
  where mails.sent_at is null
    and mails.given_up_at is null
  limit $1
) as unsent;

-- name: forget_notices
-- Remove old notices, whatever became of them: $1 older than so many seconds, $2 at most so many, $3 now. Returns how many.
with gone as (
  delete from dispatcher.notices
  where notices.id in (
    select old.id
    from dispatcher.notices as old
    where old.created_at < coalesce($3, now()) - make_interval(secs => $1)
    order by old.created_at
    limit $2
  )
  returning notices.id
)
select count(*) from gone;

-- name: forget_mails
-- Remove old mails that no notice belongs to any more: $1 older than so many seconds, $2 at most so many, $3 now. Returns
-- how many.
with gone as (
  delete from dispatcher.mails
  where mails.id in (
    select old.id
    from dispatcher.mails as old
    where old.created_at < coalesce($3, now()) - make_interval(secs => $1)
      and not exists (select from dispatcher.notices where notices.mail_id = old.id)
    order by old.created_at
    limit $2
    for update skip locked
  )
  returning mails.id
)
select count(*) from gone;
