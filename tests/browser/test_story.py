"""What people come to the console for, from the beginning to the end: with nothing else, with scripts and without them."""

import json
import re
from collections.abc import Awaitable, Callable
from typing import Any, Literal
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Locator, expect

from dispatcher.model import ARCHIVED
from support.browser import MARKS, PHONE, Open, Screen
from support.console import Console
from support.receiver import Receiver, answer
from support.world import insert_event, make_endpoint, make_tenant, until

pytestmark = MARKS
