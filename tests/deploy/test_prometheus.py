"""The alert rules, the scrape example and the dashboard name only metrics that there are, and are valid."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import yaml

from mailbbgun.counters.families import Type
from mailbbgun.metrics.metrics import EVERY
from tests.deploy.yamls import ROOT, documents
from tests.servers import install

RULES = "deploy/prometheus/mailbbgun.rules.yml"
DASHBOARD: dict[str, Any] = json.loads((ROOT / "deploy/grafana/mailbbgun.json").read_text())
PANELS = [one for one in DASHBOARD["panels"] if one["type"] != "row"]
SHOWN = [target["expr"] for panel in PANELS for target in panel["targets"]]
_NAME = re.compile(r"\bmailbbgun_\w+")


def samples() -> set[str]:
    """Return the names of all samples in ``GET /metrics``."""
    suffixes = {Type.COUNTER: ["_total"], Type.HISTOGRAM: ["_bucket", "_sum", "_count"], Type.GAUGE: [""]}
    return {f"{family.name}{suffix}" for family in EVERY for suffix in suffixes[family.type]}


def promtool(*arguments: object) -> None:
    done = subprocess.run(
        [install.promtool(), *map(str, arguments)], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_takes_the_rules_and_the_example() -> None:
    promtool("check", "rules", RULES)
    promtool("check", "config", "--syntax-only", "deploy/prometheus/prometheus.yml")
    (example,) = documents("deploy/prometheus/prometheus.yml")
    assert example["rule_files"] == [Path(RULES).name]


def test_the_alerts_fire_and_end_as_their_tests_say() -> None:
    promtool("test", "rules", "tests/deploy/alerts.yml")


def test_rules_and_dashboard_name_only_metrics_that_there_are() -> None:
    used = set(_NAME.findall((ROOT / RULES).read_text())) | {name for one in SHOWN for name in _NAME.findall(one)}
    assert used - samples() == set()


def test_the_dashboard_shows_every_metric() -> None:
    shown = {name for one in SHOWN for name in _NAME.findall(one)}
    for family in EVERY:
        assert any(name.startswith(family.name) for name in shown), family.name


def test_every_expression_of_the_dashboard_is_valid(tmp_path: Path) -> None:
    filled = [one.replace("$job", "mailbbgun.*").replace("$__rate_interval", "5m") for one in SHOWN]
    rules = [{"record": f"panel:{n}", "expr": one} for n, one in enumerate(filled)]
    (tmp_path / "panels.yml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    promtool("check", "rules", tmp_path / "panels.yml")
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    assert all(panel["title"] and panel["description"] for panel in PANELS)
