"""`dispatcher key`: what tenants and operators prove themselves with to the HTTP API."""

from typing import Annotated
from uuid import UUID

import typer

from dispatcher.cli.run import Call, command, group

app = group("Create, list and revoke API keys.")


@command(app, "create")
def create(
    call: Call,
    tenant: Annotated[str, typer.Argument(metavar="TENANT", help="Whose key it is.")],
    *,
    operator: Annotated[bool, typer.Option("--operator", help="Let it act for every tenant.")] = False,
    description: Annotated[str | None, typer.Option("--description", help="Say what it is for.")] = None,
) -> None:
    """Create an API key. It is shown this once.

    Examples:
      dispatcher key create acme --description "booking system"
      dispatcher key create acme --operator --json
    """
    from dispatcher.admin import views

    new = call.ask(lambda admin: admin.create_key(tenant, operator=operator, description=description))
    call.show(views.new_key_json(new))
    call.remark("Keep the key now: it is stored hashed and cannot be shown again.")


@command(app, "list")
def list_all(
    call: Call,
    tenant: Annotated[str | None, typer.Argument(metavar="[TENANT]", help="Only this tenant's.")] = None,
) -> None:
    """List keys, revoked ones included; never the keys themselves."""
    from dispatcher.admin import views

    keys = call.ask(lambda admin: admin.list_keys(tenant))
    call.show_all(
        [views.key_json(key) for key in keys],
        {
            "id": "ID",
            "tenant": "TENANT",
            "operator": "OPERATOR",
            "prefix": "BEGINS",
            "description": "DESCRIPTION",
            "lastUsedDate": "LAST USED",
            "revokedDate": "REVOKED",
        },
        empty="There are no keys. Create one: dispatcher key create TENANT",
    )


@command(app, "revoke")
def revoke(
    call: Call,
    key_id: Annotated[UUID, typer.Argument(metavar="ID", help="The key's id, from `dispatcher key list`.")],
) -> None:
    """Revoke a key for good."""
    from dispatcher.admin import views

    call.show(views.key_json(call.ask(lambda admin: admin.revoke_key(key_id))))
