"""deploy/'s alerts and dashboard: Prometheus takes them, they fire when they should, and ask for numbers that exist."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.metrics import MetricWrapperBase

from dispatcher.metrics import Metrics

DEPLOY = Path(__file__).parents[2] / "deploy"

SCRAPED = {"job", "instance"}
"""Labels that Prometheus adds to what it collects."""

SELECTOR = re.compile(r"\b(dispatcher_\w+)(?:\{([^}]*)\})?")
MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"')
GROUPING = re.compile(r"\b(?:by|without|on|ignoring) \(([^)]*)\)")

promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="no promtool on this machine (Debian: apt-get install prometheus)"
)


def alert_queries() -> Iterator[tuple[str, str]]:
    """Every alert's name and expression."""
    for group in yaml.safe_load((DEPLOY / "alerts.yaml").read_text())["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"]


def panels() -> list[Mapping[str, Any]]:
    """The dashboard's panels that show something."""
    board = json.loads((DEPLOY / "grafana-dashboard.json").read_text())
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def panel_queries() -> Iterator[tuple[str, str]]:
    """Every panel's title with each of its queries."""
    for panel in panels():
        for target in panel["targets"]:
            yield panel["title"], target["expr"]


QUERIES = [pytest.param(query, id=name) for name, query in (*alert_queries(), *panel_queries())]


def known_series() -> Mapping[str, Mapping[str, set[str]]]:
    """What is counted: names as Prometheus sees them, each with its labels and the values that these have from the start."""
    known: dict[str, dict[str, set[str]]] = {}
    for collector in Metrics().registry._collector_to_names:
        if not isinstance(collector, MetricWrapperBase):  # it only sees to the others
            continue
        kind, name, labels = collector._type, collector._name, collector._labelnames
        suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}.get(str(kind), [""])
        for suffix in suffixes:
            more = {"le": set[str]()} if suffix == "_bucket" else {}
            known[name + suffix] = {label: set[str]() for label in labels} | more
        for metric in collector.collect():
            for sample in metric.samples:
                for label, value in sample.labels.items():
                    known[sample.name][label].add(value)
    return known


KNOWN = known_series()


@pytest.mark.parametrize("query", QUERIES)
def test_queries_ask_for_what_is_counted(query: str) -> None:
    """Every name, label and label's value in an alert or a panel is one that the service has."""
    found = SELECTOR.findall(query)

    assert found
    for name, matchers in found:
        assert name in KNOWN
        for label, _, wanted in MATCHER.findall(matchers):
            assert label in KNOWN[name] or label in SCRAPED
            if label not in SCRAPED:
                assert set(wanted.split("|")) <= KNOWN[name][label]
    counted = {label for name, _ in found for label in KNOWN[name]}
    grouped = {label.strip() for labels in GROUPING.findall(query) for label in labels.split(",")}
    assert grouped <= counted | SCRAPED


@pytest.mark.parametrize("query", [query for query in QUERIES if query.id in dict(panel_queries())])
def test_panels_keep_to_the_chosen_job(query: str) -> None:
    """Two installations in one Prometheus are not added up unless one wants to."""
    assert all('job=~"$job"' in matchers for _, matchers in SELECTOR.findall(query))


def test_all_that_is_counted_is_shown() -> None:
    """No number is kept that nobody can look at."""
    shown = {name for query in QUERIES for name, _ in SELECTOR.findall(str(query.values[0]))}

    families = {re.sub("_(bucket|sum|count)$", "", name) for name in KNOWN}
    assert families - {re.sub("_(bucket|sum|count)$", "", name) for name in shown} == set()


def test_panels_lie_side_by_side() -> None:
    """None covers another, each has a title, a description and an id of its own."""
    board = json.loads((DEPLOY / "grafana-dashboard.json").read_text())
    cells: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        own = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not own & cells
        assert all(x < 24 for x, _ in own)
        cells |= own

    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    assert all(panel["title"] and panel["description"] for panel in panels())


@promtool
@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(("check", "rules", "--lint=all", "--lint-fatal", "alerts.yaml"), id="the rules are well-formed"),
        pytest.param(("check", "config", "prometheus.yaml"), id="the configuration is well-formed"),
        pytest.param(("test", "rules", "alerts.test.yaml"), id="alerts fire when they should, and not else"),
    ],
)
def test_prometheus_agrees(arguments: tuple[str, ...]) -> None:
    """Its own tool finds no fault."""
    done = subprocess.run(["promtool", *arguments], cwd=DEPLOY, capture_output=True, text=True, check=False, timeout=60)

    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_tried_out() -> None:
    """The tests of the rules show each alert firing, and a healthy installation where none does."""
    tests = yaml.safe_load((DEPLOY / "alerts.test.yaml").read_text())["tests"]
    fired = {
        re.findall('alertname="(.*?)"', sample["labels"])[0]
        for test in tests
        for look in test["promql_expr_test"]
        for sample in look["exp_samples"]
    }

    assert fired == {name for name, _ in alert_queries()}
