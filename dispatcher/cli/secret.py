"""`dispatcher secret`: main keys that seal the endpoints' secrets. Those themselves belong to `dispatcher webhook`."""

from dispatcher.cli.run import Call, command, group

app = group("Make main keys, which encrypt endpoint secrets at rest.")


@command(app, "new-key")
def new_key(call: Call) -> None:
    """Print a fresh main key for `[sealing] keys`; nothing is stored.

    Put it first in the list and keep the older ones behind it, so that what they sealed can still be opened.

    Examples:
      keys = ["<new>", "<old>"]   # in config.toml, below [sealing]
    """
    from dispatcher.sealing import new_key

    key = new_key()
    if call.as_json:
        call.show({"key": key})
    else:
        call.say(key)


@command(app, "rotate-key")
def rotate_key(call: Call) -> None:
    """Seal everything with the first of `[sealing] keys`, so that the other ones can be removed; the service may run.

    All processes must know both keys before, the old one and the new one: put the new key behind the old one and restart
    them, then put it first and restart them again, then call this, then remove the old one. Cut short, it goes on where it
    was when it is called again.
    """
    from dispatcher.admin import views

    resealed = call.ask(
        lambda admin: admin.reseal_secrets(lambda done, total: call.remark(f"{done} of {total} sealed."))
    )
    if call.as_json:
        call.show(views.resealed_json(resealed))
    elif resealed.count:
        call.say(f"All secrets are sealed with the main key {resealed.key} now; {resealed.count} were not before.")
    else:
        call.say(f"All secrets were sealed with the main key {resealed.key} already.")
