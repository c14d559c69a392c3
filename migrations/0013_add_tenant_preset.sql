-- What a tenant's new webhooks are set up as, so that a published contract for creating them can stay as it was.

alter table dispatcher.tenants
  add column preset text;
comment on column dispatcher.tenants.preset is
  'The preset of its new webhooks that name none; null: that of the nearest tenant above, or none.';
