-- name: reserve
-- Claim an idempotency key, or one whose time is over: $1 tenant, $2 key, $3 fingerprint, $4 now, $5 seconds for which it is
-- remembered, $6 seconds for which what is not answered yet (status 0) may take. No row if it is in use; a second
-- transaction waits here until the first one ends.
insert into dispatcher.remembered_answers as remembered (tenant, key, fingerprint, status, sealed, given_at)
values ($1, $2, $3, 0, '', coalesce($4, now()))
on conflict (tenant, key) do update
  set fingerprint = excluded.fingerprint, given_at = excluded.given_at
  where remembered.given_at <= coalesce($4, now())
    - make_interval(secs => case remembered.status when 0 then $6::float8 else $5::float8 end)
returning true;

-- name: recall
-- The answer under an idempotency key: $1 tenant, $2 key.
select fingerprint, status, sealed, sealing_key
from dispatcher.remembered_answers
where remembered_answers.tenant = $1
  and remembered_answers.key = $2;

-- name: remember
-- Keep the answer under a key that was reserved: $1 tenant, $2 key, $3 status, $4 sealed body, $5 sealing key.
update dispatcher.remembered_answers
set status = $3, sealed = $4, sealing_key = $5
where remembered_answers.tenant = $1
  and remembered_answers.key = $2;

-- name: release
-- Give up a key that was reserved: $1 tenant, $2 key.
delete from dispatcher.remembered_answers
where remembered_answers.tenant = $1
  and remembered_answers.key = $2;

-- name: forget
-- Delete answers whose time is over: $1 seconds for which they are remembered, $2 at most so many, $3 now.
with old as (
  select tenant, key
  from dispatcher.remembered_answers
  where remembered_answers.given_at <= coalesce($3, now()) - make_interval(secs => $1)
  order by remembered_answers.given_at
  limit $2
)
delete from dispatcher.remembered_answers
using old
where remembered_answers.tenant = old.tenant
  and remembered_answers.key = old.key;
