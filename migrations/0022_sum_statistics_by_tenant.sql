-- What came of a tenant's deliveries, all its endpoints together: a tenant with thousands of them sees its day at once.

create table dispatcher.tenant_statistics (
  tenant text not null,
  start_at timestamptz not null,
  answered_2xx bigint not null,
  answered_3xx bigint not null,
  answered_4xx bigint not null,
  answered_5xx bigint not null,
  unreachable bigint not null,
  blocked bigint not null,
  dead bigint not null,
  constraint tenant_statistics_pkey primary key (tenant, start_at)
) partition by range (start_at);
comment on table dispatcher.tenant_statistics is
  'The sums of endpoint_statistics by the tenant that the endpoints belong to; no row where nothing was done.';
create table dispatcher.tenant_statistics_default partition of dispatcher.tenant_statistics default
  with (fillfactor = 50);

select dispatcher.create_partitions('tenant_statistics', (now() at time zone 'UTC')::date, 4);
