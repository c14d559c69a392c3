"""`dispatcher tenant`: whose events and endpoints they are."""

from typing import Annotated

import typer

from dispatcher.cli.run import Call, command, group

app = group("Register, list and show tenants.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="The tenant's name, as producers write it.")]


@command(app, "create")
def create(
    call: Call,
    name: Name,
    *,
    parent: Annotated[
        str | None, typer.Option("--parent", metavar="NAME", help="Put it below this one, for ever.")
    ] = None,
) -> None:
    """Register a tenant, so that it can have keys and webhooks.

    Examples:
      dispatcher tenant create acme
      dispatcher tenant create acme-north --parent acme
    """
    from dispatcher.admin import views

    call.show(views.tenant_json(call.ask(lambda admin: admin.create_tenant(name, parent=parent))))


@command(app, "list")
def list_all(call: Call) -> None:
    """List all tenants."""
    from dispatcher.admin import views

    tenants = call.ask(lambda admin: admin.list_tenants())
    call.show_all(
        [views.tenant_json(tenant) for tenant in tenants],
        {"name": "NAME", "parent": "PARENT", "shard": "SHARD", "createdDate": "CREATED"},
        empty="There are no tenants yet. Register one: dispatcher tenant create NAME",
    )


@command(app, "show")
def show(call: Call, name: Name) -> None:
    """Show a tenant."""
    from dispatcher.admin import views

    call.show(views.tenant_json(call.ask(lambda admin: admin.tenant(name))))


@command(app, "update")
def update(
    call: Call,
    name: Name,
    *,
    payload_format: Annotated[
        str | None,
        typer.Option("--payload-format", metavar="NAME", help="Pin them to this; empty: as the tenant above."),
    ] = None,
    preset: Annotated[
        str | None, typer.Option("--preset", metavar="NAME", help="Set them up as this; empty: as the tenant above.")
    ] = None,
) -> None:
    """Say what a tenant's new webhooks get, and those of the tenants below it, where nothing else is chosen.

    Webhooks that are there stay as they are: `dispatcher webhook update ID --payload-format NAME` moves one.

    Examples:
      dispatcher tenant update acme --payload-format vsee/2.0
      dispatcher tenant update acme --preset decoda
    """
    from dispatcher.admin import UNSET, views

    chosen = {
        "payload_format": UNSET if payload_format is None else payload_format or None,
        "preset": UNSET if preset is None else preset or None,
    }
    call.show(views.tenant_json(call.ask(lambda admin: admin.set_defaults(name, **chosen))))
