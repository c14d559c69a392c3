-- Let the log of an endpoint with a long queue be read in the order of creation: most of what is pending is due since it was
-- created, and deliveries_by_lane has it in that order. This index holds the rest, so that a delivery that succeeds at once
-- costs no more than before.

create index deliveries_moved on dispatcher.deliveries (endpoint_id, created_at, id) where due_at <> created_at;
