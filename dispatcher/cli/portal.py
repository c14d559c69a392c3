"""`dispatcher portal`: links that show a tenant's people their own webhooks in a browser."""

from typing import Annotated

import typer

from dispatcher.cli.run import Call, command, group

app = group("Make links to a tenant's own pages.")


@command(app, "link")
def link(
    call: Call,
    tenant: Annotated[str, typer.Argument(metavar="TENANT", help="Whose pages.")],
    *,
    expires_in: Annotated[str, typer.Option("--expires-in", help='For how long it holds, like "1h", "7d".')] = "1h",
) -> None:
    """Make a signed link to a tenant's own pages: webhooks, deliveries, replays. Whoever has it acts for the tenant.

    Examples:
      dispatcher portal link acme --expires-in 7d
    """
    from dispatcher.admin import views

    made = call.ask(lambda admin: admin.create_portal_link(tenant, expires_in=expires_in))
    shown = views.portal_link_json(made)
    if call.as_json:
        call.show(shown)
    else:
        call.say(shown["url"])
        call.remark(f"It holds until {shown['expiresDate']}, and cannot be called back.")
