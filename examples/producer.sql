-- Ways to insert an event, in plain SQL. The application's role needs no more than:
--   grant dispatcher_producer to my_application;

-- An event. It is delivered after the commit, to every endpoint of the tenant that is subscribed to the type.
insert into dispatcher.outbox (tenant, event_type, payload)
values ('acme', 'appointment.created', '{"resource_id": "67890", "changed_fields": []}');

-- With the change that it tells of, in one transaction: both happen, or neither does.
begin;
insert into appointments (id, starts_at) values (67890, '2026-03-02 09:30+00');
insert into dispatcher.outbox (tenant, event_type, payload)
values ('acme', 'appointment.created', '{"resource_id": "67890", "changed_fields": []}');
commit;

-- Many at once, from a query.
insert into dispatcher.outbox (tenant, event_type, payload)
select 'acme', 'appointment.updated', json_build_object('resource_id', id::text, 'changed_fields', array['starts_at'])
from appointments;

-- A reminder: not before an instant, and not after another one.
insert into dispatcher.outbox (tenant, event_type, payload, deliver_at, expires_at)
values ('acme', 'appointment.reminder', '{"resource_id": "67890"}', now() + interval '23 hours', now() + interval '24 hours');

-- From a job that may run twice: the second insert within 24 hours is skipped, and answers INSERT 0 0.
insert into dispatcher.outbox (tenant, event_type, payload, idempotency_key)
values ('acme', 'invoice.sent', '{"invoice": 17}', 'invoice-17-sent');

-- In order: deliveries of one endpoint with one key go out one after the other.
insert into dispatcher.outbox (tenant, event_type, payload, ordering_key)
values ('acme', 'patient.created', '{"patient": 7}', 'patient-7'),
       ('acme', 'patient.updated', '{"patient": 7}', 'patient-7');
