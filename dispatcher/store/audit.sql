-- name: insert_entry
-- Note what somebody did: $1 who, $2 address or null, $3 tenant or null, $4 action, $5 target or null, $6 details, $7 now.
insert into dispatcher.audit_log (who, address, tenant, action, target, details, at)
values ($1, $2, $3, $4, $5, $6, coalesce($7, now()));

-- name: entries
-- What was done, the latest first: $1 before this id, $2 at most so many.
select id, at, who, address, tenant, action, target, details
from dispatcher.audit_log
where audit_log.id < $1
order by audit_log.id desc
limit $2;

-- name: entries_of_target
-- What was done to one thing, the latest first: $1 before this id, $2 at most so many, $3 target.
select id, at, who, address, tenant, action, target, details
from dispatcher.audit_log
where audit_log.target = $3
  and audit_log.id < $1
order by audit_log.id desc
limit $2;

-- name: entries_of_tenant
-- What was done to a tenant's things, the latest first: $1 before this id, $2 at most so many, $3 tenant.
select id, at, who, address, tenant, action, target, details
from dispatcher.audit_log
where audit_log.tenant = $3
  and audit_log.id < $1
order by audit_log.id desc
limit $2;
