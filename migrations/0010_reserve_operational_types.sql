-- Operational events (`dispatcher.…`) are for those who ask for them by name: `*` does not match them.

create or replace function dispatcher.patterns_of(event_type text) returns text[]
language sql immutable strict parallel safe
as $$
  -- a.b.c is wanted by: a.b.c, a.b.*, a.*, *; dispatcher.b.c by: dispatcher.b.c, dispatcher.b.*, dispatcher.*
  select case
    when position('.' in event_type) = 0 then array[event_type, '*']
    else
      case when event_type like 'dispatcher.%' then array[event_type] else array[event_type, '*'] end
      || array(
        select array_to_string(part.names[1:n.n], '.') || '.*'
        from (select string_to_array(event_type, '.')) as part(names)
        cross join lateral generate_series(1, cardinality(part.names) - 1) as n(n)
      )
  end
$$;
comment on function dispatcher.patterns_of(text) is
  'Every subscription that matches an event type; `*` does not match the operational `dispatcher.…` ones.';
