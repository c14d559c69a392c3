-- Find what happened lately without knowing whose it was: for the list of events and the live tail of attempts. Rows lie in
-- the order in which they came, so that a note of the first and last instant of every 128 pages is enough; a new row costs
-- next to nothing, and what no vacuum has noted yet is read.

create index outbox_by_instant on dispatcher.outbox using brin (inserted_at) with (autosummarize = on);
create index refused_events_by_instant on dispatcher.refused_events using brin (event_at) with (autosummarize = on);
create index attempts_by_instant on dispatcher.attempts using brin (started_at) with (autosummarize = on);
