"""Deliver events from a Postgres outbox to subscribed URLs, as signed POSTs, at least once."""

__version__ = "0.1.0"
