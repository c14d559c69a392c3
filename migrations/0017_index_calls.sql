-- What the log of all calls needs beside the keys: the few that were not delivered, the newest first, over all endpoints.
-- Written for each that dies or is cancelled, some 40 bytes; never for what is delivered.

create index finished_deliveries_undelivered on dispatcher.finished_deliveries (id) where state <> 'delivered';
