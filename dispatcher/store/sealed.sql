-- name: stale_count
-- How much is stored that is not sealed with the main key that seals now: $1 its id.
select
  (select count(*) from dispatcher.endpoint_secrets where endpoint_secrets.sealing_key is distinct from $1)
  + (select count(*) from dispatcher.remembered_answers where remembered_answers.sealing_key is distinct from $1)
  + (select count(*) from dispatcher.console_keys where console_keys.sealing_key is distinct from $1);

-- name: stale_secrets
-- Secrets that are not sealed with the main key that seals now, locked: $1 its id, $2 at most so many.
select endpoint_secrets.id, endpoint_secrets.sealed, endpoint_secrets.sealing_key
from dispatcher.endpoint_secrets
where endpoint_secrets.sealing_key is distinct from $1
order by endpoint_secrets.id
limit $2
for update;

-- name: reseal_secrets
-- Store secrets sealed anew: $1 ids, $2 sealed, $3 id of the main key.
update dispatcher.endpoint_secrets
set sealed = resealed.data, sealing_key = $3
from unnest($1::uuid[], $2::bytea[]) as resealed (id, data)
where endpoint_secrets.id = resealed.id;

-- name: stale_answers
-- Remembered answers that are not sealed with the main key that seals now, locked: $1 its id, $2 at most so many.
select remembered_answers.tenant, remembered_answers.key, remembered_answers.sealed, remembered_answers.sealing_key
from dispatcher.remembered_answers
where remembered_answers.sealing_key is distinct from $1
order by remembered_answers.tenant, remembered_answers.key
limit $2
for update;

-- name: reseal_answers
-- Store remembered answers sealed anew: $1 tenants, $2 keys, $3 sealed, $4 id of the main key.
update dispatcher.remembered_answers
set sealed = resealed.data, sealing_key = $4
from unnest($1::text[], $2::text[], $3::bytea[]) as resealed (tenant, key, data)
where remembered_answers.tenant = resealed.tenant
  and remembered_answers.key = resealed.key;

-- name: stale_console_key
-- The console's key, unless it is sealed with the main key that seals now, locked: $1 its id.
select console_keys.sealed, console_keys.sealing_key
from dispatcher.console_keys
where console_keys.sealing_key is distinct from $1
for update;

-- name: reseal_console_key
-- Store the console's key sealed anew: $1 sealed, $2 id of the main key.
update dispatcher.console_keys
set sealed = $1, sealing_key = $2
where console_keys.id = 1;
