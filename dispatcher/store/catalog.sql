-- name: current
-- Which import is in force; null if nothing is imported.
select catalog_documents.import_id from dispatcher.catalog_documents limit 1;

-- name: documents
-- The imported documents in their order.
select catalog_documents.import_id, catalog_documents.name, catalog_documents.document::text as document
from dispatcher.catalog_documents
order by catalog_documents.position;

-- name: lock
-- Let one import after the other happen, until the transaction ends.
select pg_advisory_xact_lock(730205, 2);

-- name: clear
-- Forget all documents.
delete from dispatcher.catalog_documents;

-- name: insert
-- Store documents in their order: $1 names, $2 documents, $3 now.
insert into dispatcher.catalog_documents (position, import_id, name, document, imported_at)
select given.position, import.id, given.name, given.document::json, coalesce($3, now())
from unnest($1::text[], $2::text[]) with ordinality as given (name, document, position)
cross join (select dispatcher.uuid_v7() as id offset 0) as import;
