-- Payload formats that come with the service can be deprecated, too: which of them, only an operator knows.

create table dispatcher.format_deprecations (
  format text not null,
  deprecated date not null,
  constraint format_deprecations_pkey primary key (format)
);
comment on table dispatcher.format_deprecations is
  'The days from which nobody should use payload formats that come with the service; those of others are in their rows.';
