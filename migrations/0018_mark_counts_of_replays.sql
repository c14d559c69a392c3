-- A replay of very many deliveries is not counted to the end when it is created: `expected` may be only the least.

alter table dispatcher.replays add column expected_exact boolean not null default true;
comment on column dispatcher.replays.expected_exact is 'False: counting stopped, and `expected` is at least that.';
