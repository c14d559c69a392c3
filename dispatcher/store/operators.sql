-- name: insert_operator
-- Register an operator, unless the name is taken: $1 name, $2 hash of the password.
insert into dispatcher.operators (name, password_hash)
values ($1, $2)
on conflict do nothing
returning name, created_at, changed_at, signed_in_at;

-- name: set_password
-- Change an operator's password: $1 name, $2 hash, $3 now.
update dispatcher.operators
set password_hash = $2, changed_at = coalesce($3, now())
where operators.name = $1
returning name, created_at, changed_at, signed_in_at;

-- name: replace_hash
-- Store the same password hashed anew: $1 name, $2 new hash, $3 the old one.
update dispatcher.operators
set password_hash = $2
where operators.name = $1
  and operators.password_hash = $3;

-- name: remove
-- Remove an operator, their sessions with them: $1 name.
delete from dispatcher.operators where operators.name = $1 returning name;

-- name: every
-- All operators by name.
select name, created_at, changed_at, signed_in_at from dispatcher.operators order by operators.name;

-- name: any_operator
-- Whether there is an operator.
select exists (select from dispatcher.operators);

-- name: password_hash
-- The hash of an operator's password: $1 name.
select password_hash from dispatcher.operators where operators.name = $1;

-- name: note_sign_in
-- Note that an operator signed in: $1 name, $2 now.
update dispatcher.operators set signed_in_at = coalesce($2, now()) where operators.name = $1;

-- name: insert_session
-- Begin a session: $1 digest of its token, $2 operator, $3 seconds that it lasts, $4 now.
insert into dispatcher.console_sessions (digest, operator, created_at, expires_at)
values ($1, $2, coalesce($4, now()), coalesce($4, now()) + make_interval(secs => $3));

-- name: session
-- The operator of a session that has not ended: $1 digest, $2 now.
select operator
from dispatcher.console_sessions
where console_sessions.digest = $1
  and console_sessions.expires_at > coalesce($2, now());

-- name: end_session
-- End a session: $1 digest.
delete from dispatcher.console_sessions where console_sessions.digest = $1;

-- name: end_sessions
-- End all sessions of an operator: $1 name.
delete from dispatcher.console_sessions where console_sessions.operator = $1;

-- name: forget_ended
-- Delete sessions that are over: $1 now.
delete from dispatcher.console_sessions where console_sessions.expires_at <= coalesce($1, now());

-- name: console_key
-- The console's key.
select sealed, sealing_key from dispatcher.console_keys where console_keys.id = 1;

-- name: insert_console_key
-- Store the console's key, unless there is one: $1 sealed, $2 id of the main key or null.
insert into dispatcher.console_keys (sealed, sealing_key) values ($1, $2) on conflict do nothing;
