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
