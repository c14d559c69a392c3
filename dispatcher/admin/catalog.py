"""The catalogue: which is in force, putting another in its place, letting in again what it refused."""

import json
from collections.abc import Sequence

from dispatcher.admin.base import Base
from dispatcher.admin.events import find_event
from dispatcher.catalog.catalog import Catalog
from dispatcher.catalog.documents import Document
from dispatcher.errors import Conflict, InvalidInput
from dispatcher.model import EventId
from dispatcher.store import catalog as store
from dispatcher.store import refusals
from dispatcher.store.history import EventRow


class CatalogAdmin(Base):
    """Show and replace the catalogue; readmit refused events."""

    async def catalog(self) -> Catalog:
        """Return the catalogue in force: of the configured files, or else of the documents that were imported."""
        async with self._pool.acquire() as connection:
            return await self._doorkeeper.catalog(connection)

    async def import_catalog(self, documents: Sequence[Document]) -> Catalog:
        """Put documents in the place of all that were imported before; none: forget the catalogue.

        All processes see it within a second or two. Raises CatalogError for what is broken, and changes nothing then.
        """
        if self._doorkeeper.files:
            raise Conflict(
                "`[catalog] files` names the catalogue, so that what is imported would not be used. Change those files, or "
                "take the key out of the configuration everywhere first.",
                field="files",
            )
        catalog = Catalog(documents)
        stored = [store.StoredDocument(one.name, _text(one)) for one in documents]
        async with self._transaction() as connection:
            await store.replace(connection, stored, now=self._now())
        return catalog

    async def readmit_event(self, event_id: EventId, *, tenant: str | None = None) -> EventRow:
        """Let a refused event be read again, after the catalogue or its mode was changed; it is judged anew."""
        async with self._transaction() as connection:
            event = await find_event(connection, event_id, tenant)
            if not await refusals.readmit(connection, event_id, event_at=event.inserted_at):
                raise Conflict(
                    f"The event {event_id} is not refused. `dispatcher event explain` says what became of it."
                )
            return await find_event(connection, event_id, tenant)


def _text(document: Document) -> str:
    text = json.dumps(document.tree, ensure_ascii=False, allow_nan=False)
    if "\\u0000" in text:
        raise InvalidInput(f"{document.name} holds a NUL character, which Postgres cannot store.", field="files")
    return text
