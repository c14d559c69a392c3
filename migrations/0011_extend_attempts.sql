-- The whole record of an attempt: what was sent, signed with which key, by whom, and what took how long.

alter table dispatcher.attempts
  add column request_head text,
  add column request_size integer,
  add column request_sha256 bytea,
  add column signed_with text,
  add column response_size bigint,
  add column reused boolean,
  add column lookup_milliseconds real,
  add column connect_milliseconds real,
  add column tls_milliseconds real,
  add column first_byte_milliseconds real,
  add column worker text;
comment on column dispatcher.attempts.request_head is
  'First line (its query cut) and headers as they were written, credentials hidden; null: nothing was written.';
comment on column dispatcher.attempts.request_sha256 is
  'Of the body, which is not stored: it is made anew of the event, and shown if it has this hash.';
comment on column dispatcher.attempts.signed_with is 'Fingerprints of the keys that signed, the newest first.';
comment on column dispatcher.attempts.response_size is
  'True size of the answer''s body; null where it was cut and its length not announced.';
comment on column dispatcher.attempts.reused is 'Over a connection that was open: no look-up, no connecting, no TLS.';
comment on column dispatcher.attempts.first_byte_milliseconds is
  'From when the request was written to the first byte of the answer; null: none came.';
comment on column dispatcher.attempts.worker is 'Host and process id of the worker.';
