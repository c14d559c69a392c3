-- When endpoints were disabled, so that it can be told of an event that an endpoint got none of it because of that, also
-- when the endpoint is enabled again. A trigger writes it, for an endpoint is disabled in more than one way.

create table dispatcher.disabled_spans (
  endpoint_id uuid not null,
  began_at timestamptz not null,
  ended_at timestamptz,
  reason text,
  constraint disabled_spans_pkey primary key (endpoint_id, began_at),
  constraint disabled_spans_endpoint_exists foreign key (endpoint_id) references dispatcher.endpoints (id)
);
comment on column dispatcher.disabled_spans.ended_at is 'Null: it still is.';

create function dispatcher.record_disabled_span() returns trigger
language plpgsql set search_path = ''
as $$
-- Open a span when an endpoint is disabled, close it when it is not any more. Of one endpoint the last hundred are kept.
begin
  if new.state = 'disabled' then
    insert into dispatcher.disabled_spans (endpoint_id, began_at, reason)
    values (new.id, coalesce(new.disabled_at, now()), new.disabled_reason)
    on conflict (endpoint_id, began_at) do update
    set ended_at = null, reason = excluded.reason;
    delete from dispatcher.disabled_spans
    where disabled_spans.endpoint_id = new.id
      and disabled_spans.began_at < (
        select oldest.began_at
        from dispatcher.disabled_spans as oldest
        where oldest.endpoint_id = new.id
        order by oldest.began_at desc
        offset 99
        limit 1
      );
  else
    update dispatcher.disabled_spans
    set ended_at = greatest(coalesce(new.updated_at, now()), disabled_spans.began_at)
    where disabled_spans.endpoint_id = new.id
      and disabled_spans.ended_at is null;
  end if;
  return null;
end
$$;

create trigger record_disabled_span
after update of state on dispatcher.endpoints
for each row
when (old.state is distinct from new.state and 'disabled' in (old.state, new.state))
execute function dispatcher.record_disabled_span();

insert into dispatcher.disabled_spans (endpoint_id, began_at, reason)
select endpoints.id, coalesce(endpoints.disabled_at, endpoints.changed_at), endpoints.disabled_reason
from dispatcher.endpoints
where endpoints.state = 'disabled';
