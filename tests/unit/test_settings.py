"""The configuration: defaults, file, variables, and what is said of every mistake."""

import tomllib
from collections.abc import Mapping
from ipaddress import ip_network
from itertools import pairwise
from pathlib import Path

import pytest

from dispatcher import __version__
from dispatcher.configuration import load
from dispatcher.errors import ConfigError
from dispatcher.retry import DEFAULT_SCHEDULE
from dispatcher.sealing import new_key
from dispatcher.settings import Section, Settings, host_port, summary

EXAMPLE = Path(__file__).parents[2] / "config.example.toml"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in an empty folder, so that nobody's config.toml is read."""
    monkeypatch.chdir(tmp_path)


def refusal(environ: Mapping[str, str] | None = None, text: str | None = None) -> str:
    """What is said of a file and variables that cannot be used."""
    path = None
    if text is not None:
        path = Path("config.toml")
        path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as refused:
        load(path, environ or {})
    return str(refused.value)


def keys_of(settings: type[Settings]) -> dict[str, set[str]]:
    """Every key of every section."""
    return {name: set(type(section).model_fields) for name, section in settings() if isinstance(section, Section)}


def test_without_file_and_variables_the_defaults_hold() -> None:
    """Nothing needs to be configured."""
    assert load(None, {"PATH": "/bin"}) == Settings()


def test_the_example_shows_every_key() -> None:
    """No key is missing from config.example.toml, and none is made up."""
    tables = tomllib.loads(EXAMPLE.read_text(encoding="utf-8"))

    assert {section: set(table) for section, table in tables.items()} == keys_of(Settings)


def test_the_example_shows_the_defaults() -> None:
    """Loading config.example.toml changes nothing."""
    assert load(EXAMPLE, {}) == Settings()


def test_every_key_of_the_example_has_a_comment() -> None:
    """The line above a key says what it is for."""
    lines = EXAMPLE.read_text(encoding="utf-8").splitlines()

    bare = [line for above, line in pairwise(lines) if " = " in line[:30] and not above.startswith("#")]

    assert [line for line in bare if not line.startswith("#")] == []


def test_every_key_can_be_set_by_a_variable() -> None:
    """What the example says, said by variables, is the default, too."""
    tables = tomllib.loads(EXAMPLE.read_text(encoding="utf-8"))
    environ = {
        f"DISPATCHER_{section}__{key}".upper(): ",".join(value) if isinstance(value, list) else str(value)
        for section, table in tables.items()
        for key, value in table.items()
    }

    assert load(None, environ) == Settings()


def test_every_key_has_an_example_that_passes() -> None:
    """What a refusal proposes is accepted."""
    for name, section in Settings():
        for key, field in type(section).model_fields.items():
            example = str((field.examples or [""])[0])
            if (name, key) in {("sealing", "keys"), ("egress", "ca_file"), ("console", "trusted_header")}:
                continue  # a key has to be random, a file has to be there, a header needs proxies

            Path("config.toml").write_text(f"[{name}]\n{key} = {example}\n", encoding="utf-8")

            load(None, {})


def test_variables_override_the_file() -> None:
    """The file changes defaults, a variable changes both."""
    Path("config.toml").write_text('[egress]\ntimeout = "3s"\nconnect_timeout = "1s"\n', encoding="utf-8")

    settings = load(None, {"DISPATCHER_EGRESS__TIMEOUT": "7s"})

    assert (settings.egress.timeout, settings.egress.connect_timeout) == (7.0, 1.0)


def test_a_file_can_be_named_by_a_variable(tmp_path: Path) -> None:
    """DISPATCHER_CONFIG names a file, `config` another before it."""
    for name in ("one", "two"):
        (tmp_path / name).write_text(f'[smtp]\nhost = "{name}"\n', encoding="utf-8")

    by_variable = load(None, {"DISPATCHER_CONFIG": "one"})
    by_option = load(Path("two"), {"DISPATCHER_CONFIG": "one"})

    assert (by_variable.smtp.host, by_option.smtp.host) == ("one", "two")


@pytest.mark.parametrize(
    "text",
    ["127.0.0.0/8, ::1/128", '["127.0.0.0/8", "::1/128"]'],
    ids=["commas", "JSON"],
)
def test_a_list_is_written_with_commas_or_as_json(text: str) -> None:
    """Both spellings mean the same."""
    settings = load(None, {"DISPATCHER_EGRESS__ALLOW_SUBNETS": text})

    assert settings.egress.allow_subnets == (ip_network("127.0.0.0/8"), ip_network("::1/128"))


@pytest.mark.parametrize(
    "text, schedule",
    [
        pytest.param("1s,2m", (1.0, 120.0), id="commas"),
        pytest.param('["1s", "2m"]', (1.0, 120.0), id="JSON"),
        pytest.param("standard", DEFAULT_SCHEDULE, id="preset"),
        pytest.param("none", (), id="none"),
    ],
)
def test_a_schedule_is_a_list_or_a_preset(text: str, schedule: tuple[float, ...]) -> None:
    """As for a webhook's own schedule."""
    assert load(None, {"DISPATCHER_RETRY__SCHEDULE": text}).retry.schedule == schedule


def test_an_empty_text_is_none_where_none_is_possible() -> None:
    """Containers are often given empty variables for what is not wanted."""
    settings = load(None, {"DISPATCHER_SMTP__HOST": "", "DISPATCHER_DATABASE__URL": ""})

    assert (settings.smtp.host, settings.database.url) == (None, None)


def test_the_user_agent_names_the_release() -> None:
    """`{version}` stands for it."""
    assert Settings().egress.user_agent == f"dispatcher/{__version__}"


def test_pgbouncer_turns_listening_off() -> None:
    """A pooler in transaction mode cannot carry LISTEN."""
    assert Settings().database.listens
    assert not load(None, {"DISPATCHER_DATABASE__PGBOUNCER": "true"}).database.listens


@pytest.mark.parametrize(
    "listen, parts",
    [("127.0.0.1:8080", ("127.0.0.1", 8080)), ("[::1]:0", ("::1", 0)), ("localhost:80", ("localhost", 80))],
    ids=["IPv4", "IPv6", "name"],
)
def test_an_address_to_listen_on_is_split(listen: str, parts: tuple[str, int]) -> None:
    """Brackets are the URL's, not the address's."""
    settings = load(None, {"DISPATCHER_API__LISTEN": listen})

    assert host_port(settings.api.listen) == parts


@pytest.mark.parametrize(
    "name, value, words",
    [
        pytest.param("DATABASE__URL", "mysql://u:swordfish@h/d", "does not begin with postgresql://", id="URL"),
        pytest.param("DATABASE__POOL_SIZE", "many", "'many' is not a whole number", id="number"),
        pytest.param("DATABASE__POOL_SIZE", "1", "'1' is less than 2", id="too small"),
        pytest.param("DATABASE__NOTIFY", "perhaps", "'perhaps' is neither true nor false", id="boolean"),
        pytest.param("API__LISTEN", "8080", "'8080' is not an address to listen on", id="port alone"),
        pytest.param("API__LISTEN", "::1:80", "'::1:80' is not an address to listen on", id="IPv6 without brackets"),
        pytest.param("OPS__CONSOLE_URL", "console", "'console' does not look like one", id="console"),
        pytest.param("EGRESS__TIMEOUT", "soon", "'soon' is not a duration", id="duration"),
        pytest.param("EGRESS__TIMEOUT", "0s", "'0s' is not more than 0", id="no time"),
        pytest.param("EGRESS__ALLOW_SUBNETS", "10.0.0.1/8", "'10.0.0.1/8' is not a network", id="host bits"),
        pytest.param("EGRESS__ALLOW_SUBNETS", "[", "begins like a JSON list", id="half a list"),
        pytest.param("EGRESS__USER_AGENT", "ü", "'ü' is not printable ASCII", id="user agent"),
        pytest.param("EGRESS__CA_FILE", "/no/such", "there is no file /no/such", id="CA file"),
        pytest.param("RETRY__SCHEDULE", "1s,x", "'1s,x' is not a retry schedule", id="schedule"),
        pytest.param("RETRY__JITTER", "2", "'2' is more than 1", id="jitter"),
        pytest.param("SMTP__TLS", "ssl", "'ssl' is not one of 'none', 'starttls' or 'tls'", id="choice"),
        pytest.param("SMTP__SENDER", "nobody", "'nobody' does not look like one", id="sender"),
        pytest.param("SEALING__KEYS", "swordfish", "A key has no id", id="main key"),
        pytest.param("RETENTION__EVENTS", "0", "'0' is less than 1", id="days"),
    ],
)
def test_a_wrong_value_is_told_with_its_variable_and_a_right_one(name: str, value: str, words: str) -> None:
    """Where, what, and how else; never a secret, never a traceback of pydantic's."""
    told = refusal({f"DISPATCHER_{name}": value})

    assert told.startswith(f"DISPATCHER_{name}: ")
    assert words in told
    assert f"Write it like `DISPATCHER_{name}=" in told
    assert "swordfish" not in told
    assert "pydantic" not in told
    assert "\n" not in told


def test_a_wrong_value_in_a_file_is_told_with_its_key() -> None:
    """The file, the section and the key."""
    told = refusal(text='[egress]\ntimeout = "soon"\n')

    assert told.startswith("config.toml: [egress] timeout: 'soon' is not a duration.")
    assert told.endswith('Write it like `timeout = "15s"`.')


@pytest.mark.parametrize(
    "text, words",
    [
        pytest.param("[egres]\n", "there is no section [egres]. Did you mean `egress`?", id="section"),
        pytest.param("[xyz]\n", "there is no section [xyz]. The sections are `database`", id="unlike any section"),
        pytest.param("[egress]\ntimeot = 1\n", "[egress] has no key `timeot`. Did you mean `timeout`", id="key"),
        pytest.param(
            "[retry]\nwarn_after = 1\n", "[retry] has no key `warn_after`. There is one in [health].", id="misplaced"
        ),
        pytest.param("timeout = 1\n", "`timeout` stands outside any section. There is one in [egress].", id="outside"),
        pytest.param("egress = 1\n", "`egress` stands outside any section. Put it", id="section as a key"),
        pytest.param("a b\n", "config.toml is not valid TOML: Expected '='", id="syntax"),
        pytest.param("[smtp]\nport = true\nhost = 5\n", "[smtp] host: 5 is not text", id="type"),
    ],
)
def test_a_mistake_in_a_file_is_told_with_what_was_meant(text: str, words: str) -> None:
    """Unknown names are answered with near ones, misplaced ones with their place."""
    assert words in refusal(text=text)


@pytest.mark.parametrize(
    "name, words",
    [
        pytest.param("DISPATCHER_TYPO", "there is no such variable", id="top level"),
        pytest.param("DISPATCHER_DATABASE_URL", "Did you mean `DISPATCHER_DATABASE__URL`", id="one underscore"),
        pytest.param("DISPATCHER_SMTP_PORT", "Did you mean `DISPATCHER_SMTP__PORT`", id="one underscore before PORT"),
        pytest.param("DISPATCHER_EGRESS__TIMEOT", "Did you mean `DISPATCHER_EGRESS__TIMEOUT`", id="misspelt"),
        pytest.param("dispatcher_egress__timeout", "Did you mean `DISPATCHER_EGRESS__TIMEOUT`", id="lower case"),
        pytest.param("DISPATCHER_CONFIGURATION", "Did you mean `DISPATCHER_CONFIG`", id="file"),
    ],
)
def test_an_unknown_variable_is_told_with_what_was_meant(name: str, words: str) -> None:
    """A variable that nobody reads would be a setting that is silently not set."""
    told = refusal({name: "1"})

    assert told.startswith(f"{name}: ")
    assert words in told


def test_what_kubernetes_injects_is_nobodys_mistake() -> None:
    """A Service called `dispatcher` gives every pod variables of these names."""
    injected = {
        "DISPATCHER_SERVICE_HOST": "10.0.0.1",
        "DISPATCHER_SERVICE_PORT": "80",
        "DISPATCHER_SERVICE_PORT_HTTP": "80",
        "DISPATCHER_PORT": "tcp://10.0.0.1:80",
        "DISPATCHER_PORT_80_TCP": "tcp://10.0.0.1:80",
        "DISPATCHER_PORT_80_TCP_PROTO": "tcp",
        "DISPATCHER_OPS_SERVICE_HOST": "10.0.0.1",
        "DISPATCHER_OPS_PORT_81_TCP_ADDR": "10.0.0.1",
    }

    assert load(None, injected) == Settings()


def test_every_mistake_is_told_at_once() -> None:
    """One line each, so that mending takes one round."""
    told = refusal({"DISPATCHER_TYPO": "1", "DISPATCHER_SMTP__PORT": "x"}, "[retry]\njiter = 1\n")

    assert len(told.splitlines()) == 3


def test_a_named_file_has_to_be_there() -> None:
    """A path that leads nowhere is told with where it came from."""
    assert refusal({"DISPATCHER_CONFIG": "gone.toml"}).startswith("DISPATCHER_CONFIG: there is no file gone.toml.")
    with pytest.raises(ConfigError, match="--config: there is no file"):
        load(Path("gone.toml"), {})


def test_a_file_has_to_be_readable_text(tmp_path: Path) -> None:
    """A folder and bytes that are not UTF-8 are told as such."""
    (tmp_path / "bytes.toml").write_bytes(b"\xff")

    for path, words in ((tmp_path, "cannot be read"), (tmp_path / "bytes.toml", "not text in UTF-8")):
        with pytest.raises(ConfigError, match=words):
            load(path, {})


def test_the_summary_holds_no_secret() -> None:
    """Passwords and main keys are true or false; the URL loses its password and its query."""
    settings = load(
        None,
        {
            "DISPATCHER_DATABASE__URL": "postgresql://me:swordfish@host:5432/db?password=swordfish",
            "DISPATCHER_SMTP__PASSWORD": "swordfish",
            "DISPATCHER_SEALING__KEYS": new_key(),
        },
    )

    shown = summary(settings)

    assert shown["database"]["url"] == "postgresql://me@host:5432/db"
    assert (shown["smtp"]["password"], shown["sealing"]["keys"]) == (True, True)
    assert summary(Settings())["smtp"]["password"] is False
    assert (shown["egress"]["timeout"], shown["retry"]["schedule"][:2], shown["retry"]["jitter"]) == (
        "15s",
        ["5s", "5m"],
        0.2,
    )
    assert "swordfish" not in f"{shown}{settings!r}"


def test_a_header_that_anybody_could_send_is_refused() -> None:
    """Without proxies that may name the operator nobody would keep others from doing so."""
    said = refusal({"DISPATCHER_CONSOLE__TRUSTED_HEADER": "X-Forwarded-User"})

    assert "DISPATCHER_CONSOLE__TRUSTED_HEADER" in said
    assert "trusted_proxies" in said


def test_a_header_is_believed_from_named_proxies() -> None:
    """With them it passes, whichever stands first."""
    settings = load(
        None,
        {
            "DISPATCHER_CONSOLE__TRUSTED_HEADER": "X-Forwarded-User",
            "DISPATCHER_CONSOLE__TRUSTED_PROXIES": "127.0.0.1/32",
        },
    )

    assert settings.console.trusted_header == "X-Forwarded-User"
