-- Replays: lasting jobs that make new deliveries of finished ones, batch by batch. Few rows, each changed often while it runs.

create table dispatcher.replays (
  id uuid not null default dispatcher.uuid_v7(),
  endpoint_id uuid not null,
  shard smallint not null,
  states text[] not null,
  since timestamptz,
  until timestamptz,
  patterns text[],
  causes text[],
  rate double precision,
  state text not null default 'running',
  reason text,
  created_at timestamptz not null,
  finished_at timestamptz,
  read_at timestamptz not null,
  read_id bigint not null default 0,
  next_at timestamptz not null,
  expected bigint not null,
  replayed bigint not null default 0,
  past_retention bigint not null default 0,
  expired bigint not null default 0,
  superseded bigint not null default 0,
  constraint replays_pkey primary key (id),
  constraint replays_endpoint_exists foreign key (endpoint_id) references dispatcher.endpoints (id),
  constraint replays_state_known check (state in ('running', 'done', 'cancelled')),
  constraint replays_states_final check (states <@ array['delivered', 'dead', 'cancelled'] and cardinality(states) > 0),
  constraint replays_rate_positive check (rate > 0),
  constraint replays_finished_unless_running check ((state = 'running') = (finished_at is null))
) with (fillfactor = 50);
create index replays_running on dispatcher.replays (shard, endpoint_id, id) where state = 'running';
create index replays_by_endpoint on dispatcher.replays (endpoint_id, id);
comment on column dispatcher.replays.since is 'Of events inserted from this instant on; null: however old.';
comment on column dispatcher.replays.until is 'Of events inserted before this instant; null: however young.';
comment on column dispatcher.replays.patterns is 'Of these event types or patterns; null: of all.';
comment on column dispatcher.replays.causes is
  'What the last attempt or the death came to: `timeout`, `503`, `5xx`, `endpoint_disabled`; null: anything.';
comment on column dispatcher.replays.rate is 'New deliveries a second; null: as many as the endpoint takes.';
comment on column dispatcher.replays.read_at is
  'Where it stands, with read_id: finished_at of the last finished delivery that was looked at.';
comment on column dispatcher.replays.next_at is 'No batch before this instant: keeps the rate, also over a restart.';
comment on column dispatcher.replays.expected is 'How many there were to be replayed when it was created.';
comment on column dispatcher.replays.past_retention is 'Left out: the event, and its payload with it, is gone.';
comment on column dispatcher.replays.expired is 'Left out: the event''s expires_at has passed.';
comment on column dispatcher.replays.superseded is 'Left out: a later delivery of the event to this endpoint exists.';
