"""What a tenant or an operator may do, checked and in transactions; how it is asked for is left to the fronts.

Every method raises `InvalidInput` (naming the field) or `NotFound`, with a message that says how to mend it. A method
with a `tenant` argument acts for that tenant alone, to which others' things do not exist; without it, for an operator.
"""

from dispatcher.admin.audit import AuditAdmin, AuditPage
from dispatcher.admin.calls import CallFilter, CallPage, CallsAdmin
from dispatcher.admin.catalog import CatalogAdmin
from dispatcher.admin.definitions import DefinitionRow
from dispatcher.admin.deliveries import DeliveriesAdmin
from dispatcher.admin.endpoints import EndpointsAdmin
from dispatcher.admin.event_pages import EventPage, EventPagesAdmin
from dispatcher.admin.events import EventsAdmin
from dispatcher.admin.explain import ExplainAdmin
from dispatcher.admin.figures import (
    EndpointGlance,
    EndpointPage,
    EndpointSeries,
    Now,
    Overview,
    Series,
    System,
    Totals,
)
from dispatcher.admin.inputs import UNSET, LogFilter, NewEvent, Unset, WebhookChanges, WebhookDraft
from dispatcher.admin.links import ConsoleKey, LinksAdmin, PortalLink
from dispatcher.admin.log import LogAdmin
from dispatcher.admin.mails import MailDetails, MailPage, MailsAdmin
from dispatcher.admin.once import Given, OnceAdmin
from dispatcher.admin.operators import OperatorsAdmin
from dispatcher.admin.overview import OverviewAdmin
from dispatcher.admin.proof import ProofAdmin, SignatureCheck, SignatureFinding, SignatureVerdict
from dispatcher.admin.replay_pages import ListedReplay, ReplayPage, ReplayPagesAdmin
from dispatcher.admin.replays import ReplayDraft, ReplaysAdmin
from dispatcher.admin.results import (
    DeliveryDetails,
    DeliveryPage,
    EndpointFinding,
    Explanation,
    Finding,
    LoggedDelivery,
    LogPage,
    NewKey,
)
from dispatcher.admin.secrets import SecretsAdmin
from dispatcher.admin.series import FAILURES
from dispatcher.admin.tail import Tail, TailAdmin, TailFilter
from dispatcher.admin.tenants import TenantsAdmin
from dispatcher.store.audit import AuditRow, Deed
from dispatcher.store.calls import Call
from dispatcher.store.endpoints import EndpointRow, HealthRow, SecretRow
from dispatcher.store.events import Fates, ListedEvent
from dispatcher.store.history import AttemptRow, DeliveryRow, EventRow
from dispatcher.store.inventory import MigrationRow, PartitionRow, ShardRow, TableRow, WorkerRow
from dispatcher.store.keys import Key
from dispatcher.store.mails import MailRow, MailState, WaitingNotices
from dispatcher.store.notices import Notice
from dispatcher.store.operators import Operator
from dispatcher.store.replays import Fate, ReplayRow, ReplayState
from dispatcher.store.tail import Tailed
from dispatcher.store.tenants import Tenant

__all__ = [
    "FAILURES",
    "UNSET",
    "Admin",
    "AttemptRow",
    "AuditPage",
    "AuditRow",
    "Call",
    "CallFilter",
    "CallPage",
    "ConsoleKey",
    "Deed",
    "DefinitionRow",
    "DeliveryDetails",
    "DeliveryPage",
    "DeliveryRow",
    "EndpointFinding",
    "EndpointGlance",
    "EndpointPage",
    "EndpointRow",
    "EndpointSeries",
    "EventPage",
    "EventRow",
    "Explanation",
    "Fate",
    "Fates",
    "Finding",
    "Given",
    "HealthRow",
    "Key",
    "ListedEvent",
    "ListedReplay",
    "LogFilter",
    "LogPage",
    "LoggedDelivery",
    "MailDetails",
    "MailPage",
    "MailRow",
    "MailState",
    "MigrationRow",
    "NewEvent",
    "NewKey",
    "Notice",
    "Now",
    "Operator",
    "Overview",
    "PartitionRow",
    "PortalLink",
    "ReplayDraft",
    "ReplayPage",
    "ReplayRow",
    "ReplayState",
    "SecretRow",
    "Series",
    "ShardRow",
    "SignatureCheck",
    "SignatureFinding",
    "SignatureVerdict",
    "System",
    "TableRow",
    "Tail",
    "TailFilter",
    "Tailed",
    "Tenant",
    "Totals",
    "Unset",
    "WaitingNotices",
    "WebhookChanges",
    "WebhookDraft",
    "WorkerRow",
]


class Admin(
    TenantsAdmin,
    EndpointsAdmin,
    EventsAdmin,
    LogAdmin,
    ProofAdmin,
    DeliveriesAdmin,
    ReplaysAdmin,
    SecretsAdmin,
    ExplainAdmin,
    OnceAdmin,
    CatalogAdmin,
    TailAdmin,
    MailsAdmin,
    EventPagesAdmin,
    ReplayPagesAdmin,
    CallsAdmin,
    OperatorsAdmin,
    AuditAdmin,
    LinksAdmin,
    OverviewAdmin,
):
    """Everything that people do, by noun; one object for the command line, the HTTP API and the console."""
