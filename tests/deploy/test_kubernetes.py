"""The Kubernetes manifests: what every pod must and must not have."""

from pathlib import Path
from typing import Any

import pytest

from mailbbgun.settings.load import load
from mailbbgun.settings.ports import check_ports
from mailbbgun.settings.settings import Settings
from tests.deploy.yamls import ROOT, documents

FOLDER = "deploy/kubernetes"
FILES = ("initdb", "api", "worker", "smtpd", "mx", "requeue")
SMTPD, MX = "SMTP door", "MX port"  # more Deployments
DOORS = {"smtpd": SMTPD, "mx": MX}
KINDS: dict[str, Any] = {
    DOORS.get(name, document["kind"]) if document["kind"] == "Deployment" else document["kind"]: document
    for name in FILES
    for document in documents(f"{FOLDER}/{name}.yaml")
}


def _pod(kind: str) -> dict[str, Any]:
    spec: dict[str, Any] = KINDS[kind]["spec"]
    spec = spec.get("jobTemplate", {"spec": spec})["spec"]
    found: dict[str, Any] = spec["template"]["spec"]
    return found


PODS = {kind: _pod(kind) for kind in ("Deployment", SMTPD, MX, "StatefulSet", "Job", "CronJob")}


def test_kustomize_names_every_file_but_the_secret() -> None:
    (kustomization,) = documents(f"{FOLDER}/kustomization.yaml")
    assert {f"{name}.yaml" for name in FILES} == set(kustomization["resources"])
    there = {path.name for path in (ROOT / FOLDER).iterdir()}
    assert there == set(kustomization["resources"]) | {"kustomization.yaml", "secret.example.yaml"}


@pytest.mark.parametrize("kind", PODS)
def test_no_pod_runs_as_root_or_may_become_it(kind: str) -> None:
    pod = PODS[kind]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 10001
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["automountServiceAccountToken"] is False


@pytest.mark.parametrize("kind", PODS)
def test_kubernetes_adds_no_variables_that_look_like_settings(kind: str) -> None:
    assert PODS[kind]["enableServiceLinks"] is False


@pytest.mark.parametrize("kind", PODS)
def test_every_folder_that_is_written_is_mounted(kind: str) -> None:
    pod = PODS[kind]
    (container,) = pod["containers"]
    volumes = {volume["name"] for volume in pod["volumes"]}
    volumes |= (
        {claim["metadata"]["name"] for claim in KINDS["StatefulSet"]["spec"]["volumeClaimTemplates"]}
        if kind == "StatefulSet"
        else set()
    )
    written = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"] if not mount.get("readOnly")}
    assert written == {"/tmp": "tmp", "/var/lib/mailbbgun": "var"}
    assert volumes == {mount["name"] for mount in container["volumeMounts"]}


def test_journals_follow_the_worker_to_its_successor() -> None:
    assert [claim["metadata"]["name"] for claim in KINDS["StatefulSet"]["spec"]["volumeClaimTemplates"]] == ["var"]
    assert "var" not in {volume["name"] for volume in PODS["StatefulSet"]["volumes"]}


def test_worker_and_smtp_door_get_the_time_they_need_to_stop() -> None:
    for kind in ("StatefulSet", SMTPD, MX):
        assert PODS[kind]["terminationGracePeriodSeconds"] > Settings().SHUTDOWN_GRACE + 10


@pytest.mark.parametrize("kind", ["Deployment", SMTPD, MX, "StatefulSet"])
def test_long_running_parts_have_probes(kind: str) -> None:
    (container,) = PODS[kind]["containers"]
    assert {"startupProbe", "livenessProbe"} <= set(container)


def test_the_api_goes_on_accepting_while_broker_and_workers_are_away() -> None:
    (container,) = PODS["Deployment"]["containers"]
    assert container["readinessProbe"]["httpGet"]["path"] == "/health", (
        "/ready would take every pod out of service at once"
    )


def test_the_api_asks_for_keys() -> None:
    (container,) = PODS["Deployment"]["containers"]
    given = {one["name"]: one["value"] for one in container["env"]}
    assert given["MAILBBGUN_AUTH_REQUIRED"] == "true"
    assert "MAILBBGUN_ALLOW_UNAUTHENTICATED" not in given


@pytest.mark.parametrize("name", DOORS)
def test_the_smtp_doors_have_the_settings_that_they_need_and_a_certificate(name: str) -> None:
    (container,) = PODS[DOORS[name]]["containers"]
    settings = load({one["name"]: one["value"] for one in container["env"]})
    check_ports(settings)
    (mounted,) = [one["mountPath"] for one in container["volumeMounts"] if one["name"] == "tls"]
    assert {str(Path(file).parent) for file in (settings.SMTPD_TLS_CERT, settings.SMTPD_TLS_KEY)} == {mounted}
    assert settings.AUTH_REQUIRED
    opened = {"smtpd": settings.SMTPD_PORT, "mx": settings.MX_LISTEN_PORT}
    (port,) = container["ports"]
    assert opened == {one: port["containerPort"] if one == name else 0 for one in DOORS}
    assert container["livenessProbe"]["exec"]["command"] == ["python", "deploy/healthcheck.py", "smtpd"]
    (service,) = (one for one in documents(f"{FOLDER}/{name}.yaml") if one["kind"] == "Service")
    assert [one["targetPort"] for one in service["spec"]["ports"]] == [port["name"]]
    assert "type" not in service["spec"], "it is opened to others by whoever knows what that means"


@pytest.mark.parametrize("kind", PODS)
def test_every_pod_has_the_encryption_keys_of_the_secret(kind: str) -> None:
    (container,) = PODS[kind]["containers"]
    assert container["envFrom"] == [{"secretRef": {"name": "mailbbgun"}}]


def test_the_secret_is_an_example_without_a_password() -> None:
    (secret,) = documents(f"{FOLDER}/secret.example.yaml")
    assert secret["stringData"]["MAILBBGUN_ENCRYPTION_KEYS"].startswith("<")
    for name, value in secret["stringData"].items():
        assert "_URL" not in name or "<password>" in value
    load({name: value.replace("<", "").replace(">", "") for name, value in secret["stringData"].items()})
