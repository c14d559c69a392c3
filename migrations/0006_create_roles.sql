-- dispatcher_producer may insert into the outbox and do nothing else. Grant it to the application's role:
--   grant dispatcher_producer to my_application;
do $$
begin
  if not exists (select from pg_roles where rolname = 'dispatcher_producer') then
    create role dispatcher_producer nologin;
  end if;
exception
  when insufficient_privilege then
    raise notice 'role dispatcher_producer not created: % may not create roles', current_user;
  when duplicate_object or unique_violation then
    null; -- another database of this cluster was faster
end
$$;

do $$
begin
  if exists (select from pg_roles where rolname = 'dispatcher_producer') then
    grant usage on schema dispatcher to dispatcher_producer;
    grant insert (
      id, tenant, event_type, payload, occurred_at, deliver_at, expires_at, idempotency_key, ordering_key
    ) on dispatcher.outbox to dispatcher_producer;
  end if;
end
$$;
