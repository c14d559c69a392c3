"""`dispatcher catalog`: the event types that are known beforehand, as AsyncAPI documents."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dispatcher.cli.run import Call, command, group
from dispatcher.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from dispatcher.catalog.catalog import Catalog

app = group(
    "Check, import, export and show the catalogue of event types.\n\n"
    "It is made of AsyncAPI 3.0 documents: those that `[catalog] files` names, or else those that were imported."
)

Files = Annotated[list[Path], typer.Argument(metavar="FILES…", help="AsyncAPI 3.0 documents, YAML or JSON.")]
FromFiles = Annotated[
    list[Path] | None, typer.Argument(metavar="[FILES…]", help="Of these documents; else of the catalogue in force.")
]
Names = Annotated[
    str | None, typer.Option("--types", metavar="A,B", help="Only these event types or patterns, like appointment.*.")
]


@command(app, "check")
def check(call: Call, files: Files) -> None:
    """Check documents, as they are checked before they become the catalogue. Connects to nothing.

    All faults are told, each with its file and place; the exit code is 4 then.

    Examples:
      dispatcher catalog check events.yaml
    """
    from dispatcher.catalog.catalog import Catalog
    from dispatcher.catalog.documents import read
    from dispatcher.errors import CatalogError

    try:
        catalog = Catalog(read(files))
    except CatalogError as error:
        if not call.as_json:
            raise
        call.show({"eventTypes": 0, "faults": [_fault(fault) for fault in error.faults], "files": [*map(str, files)]})
        raise typer.Exit(error.exit_code) from None
    if call.as_json:
        call.show({"eventTypes": len(catalog.event_types), "faults": [], "files": [*map(str, files)]})
        return
    deprecated = sum(one.deprecated is not None for one in catalog.event_types)
    call.say(f"{_count(len(catalog.event_types), 'event type')}, {deprecated} of them deprecated. All is well.")


@command(app, "import")
def import_documents(
    call: Call,
    files: Annotated[
        list[Path] | None, typer.Argument(metavar="FILES…", help="AsyncAPI 3.0 documents, YAML or JSON.")
    ] = None,
    *,
    nothing: Annotated[bool, typer.Option("--none", help="Forget the catalogue instead.")] = False,
) -> None:
    """Store documents in the database, in the place of all that were imported before.

    All processes use them within a second or two; nothing has to be copied to other machines, and nothing restarted.
    Where `[catalog] files` is set, those files are the catalogue, and nothing can be imported.

    Examples:
      dispatcher catalog import events.yaml more.yaml
    """
    from dispatcher.catalog.documents import read

    if bool(files) == nothing:
        raise InvalidInput("Name the documents to import, or give --none to forget the catalogue.", field="none")
    documents = read(files or [])
    catalog = call.ask(lambda admin: admin.import_catalog(documents))
    mode = call.settings().catalog.mode
    if call.as_json:
        call.show({"eventTypes": len(catalog.event_types), "mode": mode})
        return
    call.say(f"The catalogue has {_count(len(catalog.event_types), 'event type')} now.")
    if mode == "off" and catalog:
        call.say("`[catalog] mode` is off, so that nothing is held against it. Set it to warn or enforce.")


@command(app, "export")
def export_document(
    call: Call,
    files: FromFiles = None,
    *,
    types: Names = None,
    webhook: Annotated[
        str | None, typer.Option("--webhook", metavar="ID", help="Only what this webhook is subscribed to.")
    ] = None,
    sent_only: Annotated[
        bool, typer.Option("--sent-only", help="Leave out what is only inserted: for subscribers.")
    ] = False,
) -> None:
    """Print the catalogue as one AsyncAPI document: YAML, or JSON with --json.

    Examples:
      dispatcher catalog export > asyncapi.yaml
      dispatcher catalog export --types 'appointment.*' --sent-only --json
    """
    from dispatcher.catalog.documents import write
    from dispatcher.catalog.export import export

    catalog, names = _chosen(call, files, types, webhook)
    document = export(catalog, names, payloads=not sent_only)
    if call.as_json:
        call.show(document)
        return
    sys.stdout.write(write(document))


@command(app, "list")
def list_all(call: Call, files: FromFiles = None, *, types: Names = None) -> None:
    """List the event types.

    Examples:
      dispatcher catalog list --types 'appointment.*'
      dispatcher catalog list events.yaml
    """
    from dispatcher.admin import views

    catalog, names = _chosen(call, files, types, None)
    shown = [one for one in catalog.event_types if names is None or one.name in names]
    documents = [views.event_type_json(one) for one in shown]
    if not call.as_json:
        documents = [one | {"aliases": ", ".join(one["aliases"])} for one in documents]
    call.show_all(
        documents,
        {"name": "TYPE", "summary": "SUMMARY", "aliases": "ALIASES", "deprecated": "DEPRECATED"},
        empty="There is no catalogue: every event type is allowed. `dispatcher catalog import FILES…` makes one.",
    )


@command(app, "render")
def render(
    call: Call,
    files: FromFiles = None,
    *,
    types: Names = None,
    title: Annotated[str | None, typer.Option("--title", metavar="TEXT", help="What stands above it.")] = None,
) -> None:
    """Print the catalogue as one HTML page, searchable, that needs no network.

    Examples:
      dispatcher catalog render > catalog.html
    """
    from dispatcher.catalog.page import render as render_page

    catalog, names = _chosen(call, files, types, None)
    page = render_page(catalog, title=title, names=names)
    if call.as_json:
        call.show({"html": page})
        return
    sys.stdout.buffer.write(page.encode())


def _chosen(
    call: Call, files: Sequence[Path] | None, types: str | None, webhook: str | None
) -> "tuple[Catalog, set[str] | None]":
    """Return the catalogue of the files, or that in force, and the names that were chosen of it (none: all)."""
    patterns = None if types is None else [one.strip() for one in types.split(",") if one.strip()]
    if webhook is not None:
        from uuid import UUID

        from dispatcher.model import EndpointId

        try:
            endpoint_id = EndpointId(UUID(webhook))
        except ValueError:
            raise InvalidInput("A webhook's id is a UUID.", field="webhook") from None
        patterns = list(call.ask(lambda admin: admin.webhook(endpoint_id)).subscriptions)
    catalog = _catalog(call, files)
    if patterns is None:
        return catalog, None
    names: set[str] = set()
    for pattern in patterns:
        matching = catalog.matching(pattern)
        if not matching and webhook is None:
            raise NotFound(f"{catalog.unknown(pattern)} `dispatcher catalog list` shows all.")
        names.update(one.name for one in matching)
    return catalog, names


def _catalog(call: Call, files: Sequence[Path] | None) -> "Catalog":
    from dispatcher.app import open_doorkeeper
    from dispatcher.catalog.catalog import Catalog

    if files:
        return Catalog.read(files)
    doorkeeper = open_doorkeeper(call.settings())
    return doorkeeper.of_files() if doorkeeper.files else call.ask(lambda admin: admin.catalog())


def _fault(fault: Any) -> dict[str, str]:
    return {"file": fault.file, "message": fault.message, "pointer": fault.pointer}


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
