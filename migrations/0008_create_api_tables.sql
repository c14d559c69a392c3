-- What the tenants' HTTP API needs beside: answers that are given again for an Idempotency-Key, the log of one endpoint's
-- deliveries in the order of their creation, and a word about notices for what is sent by hand.

create table dispatcher.remembered_answers (
  tenant text not null,
  key text not null,
  fingerprint bytea not null,
  status smallint not null,
  sealed bytea not null,
  sealing_key text,
  given_at timestamptz not null,
  constraint remembered_answers_pkey primary key (tenant, key)
);
create index remembered_answers_by_age on dispatcher.remembered_answers (given_at);
comment on table dispatcher.remembered_answers is
  'Answers to creating calls of the HTTP API with an Idempotency-Key, kept for 24 hours.';
comment on column dispatcher.remembered_answers.fingerprint is 'SHA-256 of the request: one key stands for one request.';
comment on column dispatcher.remembered_answers.sealed is 'The body, which may hold a secret; sealed like one.';

create index finished_deliveries_by_creation on dispatcher.finished_deliveries (endpoint_id, created_at, id);
create index finished_deliveries_undelivered_by_creation on dispatcher.finished_deliveries (endpoint_id, created_at, id)
  where state <> 'delivered';

alter table dispatcher.deliveries add column notify boolean not null default false;
comment on column dispatcher.deliveries.notify is 'Of a manual one: whoever sent it wants a notice if it fails.';
