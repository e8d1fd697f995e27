"""Templates and variables of people who mean harm: rows S19 and S20 of the reliability table."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mailbbgun.templates.engine import weigh
from tests.templates.attacks import ATTACKS, VARIABLES
from tests.waiting import PATIENCE

ROOT = Path(__file__).parents[2]
#: What no template may print.
SECRETS = ("root:x:", "built-in", "<class", "0x7", "environ", "/usr/", "mailbbgun")
#: Attacks that are no harm with some variables, because they find too little to do.
HARMLESS = {"a long round": "1.5", "reaching for a class by map": "[null]"}


@pytest.mark.parametrize("kind", VARIABLES)
def test_every_attack_is_contained_and_prints_nothing_of_ours(kind):
    done = subprocess.run(
        [sys.executable, "-m", "tests.templates.contained", kind],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, f"{lines[-1]} ended the process: {done.returncode} {done.stderr[-300:]}"
    assert len(lines) == 4 * len(ATTACKS) >= 4 * 80
    for (name, _), said in zip(lines[::2], lines[1::2], strict=True):
        assert said is None or not any(secret in said for secret in SECRETS), (name, said)
        if name.startswith("reaching for"):
            assert said is None or said == HARMLESS.get(name), (name, said)


def test_the_variables_of_the_attacks_are_as_heavy_as_a_mail_may_have():
    weights = {kind: weigh(variables) for kind, variables in VARIABLES.items()}
    assert sorted(weights.values())[-3] > 55_000, weights


def test_requests_beside_attacks_are_answered(tenant):
    saved = []
    for name in ("a mapping in capitals", "first", "a text sought in a text", "replace"):
        template = {"name": name.replace(" ", "-"), "subject": "x", "text": ATTACKS[f"{name} again and again"]}
        assert tenant.ask("POST", "/templates", json=template).status_code == 201
        saved.append(template["name"])
    kinds = [{**VARIABLES[kind]} for kind in ("mapping", "deep", "long text", "light")]

    def attacked():
        for name, variables in zip(saved * 3, kinds * 3, strict=True):
            answer = tenant.ask("POST", f"/templates/{name}/render", json={"variables": variables})
            assert answer.json()["error"]["code"] in ("template_error", "too_large")

    with ThreadPoolExecutor(2) as pool:
        attacks = [pool.submit(attacked) for _ in range(2)]
        answered = 0
        while not all(attack.done() for attack in attacks):
            assert tenant.locked.get("/health")
            answered += 1
        for attack in attacks:
            attack.result()
    assert answered >= 12  # of 24 attacks: none is starved
