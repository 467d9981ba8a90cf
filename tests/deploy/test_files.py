"""Every file an operator deploys with: read by its own linter or schema, held against the code."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from tests.support.dockerfile import Dockerfile

from luma_memory import __version__
from luma_memory.cli.commands import COMMANDS
from luma_memory.settings import Settings, variable_names
from luma_memory.worker.worker import STOP_GRACE_SECONDS

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
SCHEMAS = ROOT / "tests" / "schemas"
DOCKERFILES = ("Dockerfile", "Dockerfile.worker")
YAML_FILES = sorted(DEPLOY.rglob("*.yaml"))
MANIFESTS = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
API_STOP_SECONDS = 20  # 10 s for open requests, and some to close connections
# Of docs.railway.com/config-as-code/reference; the platform publishes its schema on its own host.
RAILWAY_BUILD = {"builder", "buildCommand", "dockerfilePath", "watchPatterns"}
RAILWAY_DEPLOY = {
    *("startCommand", "preDeployCommand", "healthcheckPath", "healthcheckTimeout"),
    *("restartPolicyType", "restartPolicyMaxRetries", "cronSchedule", "multiRegionConfig"),
    *("overlapSeconds", "drainingSeconds"),
}


def run_linter(name: str, *arguments: object) -> None:
    """Fail with what it says; skip where its program does not exist for this system."""
    program = Path(sys.executable).with_name(name)
    if not program.exists():
        pytest.skip(f"{name} is not made for this system")
    command = [str(program), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


@cache
def validator(kind: str) -> jsonschema.Draft202012Validator:
    """Of the manifests of one kind."""
    schema = json_file(SCHEMAS / "kubernetes.json")
    return jsonschema.Draft202012Validator({**schema, "$ref": f"#/$defs/{schema['kinds'][kind]}"})


def json_file(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def documents(path: Path) -> list[Any]:
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


def manifests() -> dict[tuple[str, str], Any]:
    """Every object of the cluster, by kind and name."""
    found = [
        document
        for path in MANIFESTS
        for document in documents(path)
        if document["kind"] != "Kustomization"
    ]
    return {(document["kind"], document["metadata"]["name"]): document for document in found}


# Linters


@pytest.mark.parametrize("name", DOCKERFILES)
def test_dockerfiles_pass_their_linter(name: str) -> None:
    run_linter("hadolint", "--failure-threshold", "style", name)


@pytest.mark.parametrize("path", YAML_FILES, ids=lambda path: path.name)
def test_yaml_passes_its_linter(path: Path) -> None:
    run_linter("yamllint", "--strict", "--config-file", DEPLOY / ".yamllint", path)


def test_shell_scripts_pass_their_linter() -> None:
    scripts = [*sorted((ROOT / "tools").glob("*.sh")), ROOT / ".ci" / "run"]
    assert len(scripts) > 3
    run_linter("shellcheck", *scripts)


def test_the_compose_file_fits_its_schema() -> None:
    (compose,) = documents(DEPLOY / "compose.yaml")
    jsonschema.validate(compose, json_file(SCHEMAS / "compose.json"))


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_manifests_fit_the_schema_of_their_kind(path: Path) -> None:
    for document in documents(path):
        if document["kind"] == "Kustomization":
            assert {file.name for file in MANIFESTS} == {path.name, *document["resources"]}
            continue
        validator(document["kind"]).validate(document)


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "Deployment", "apiVersion": "apps/v1", "spec": {"replica": 2}},
        {"kind": "Service", "apiVersion": "v1", "spec": {"ports": [{"port": "eighty"}]}},
    ],
)
def test_the_schema_of_manifests_refuses_what_is_wrong(wrong: Mapping[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        validator(wrong["kind"]).validate(wrong)


@pytest.mark.parametrize("name", ["luma-memory-api", "luma-memory-worker"])
def test_railway_services_say_what_the_platform_knows(name: str) -> None:
    service = json_file(DEPLOY / "railway" / f"{name}.json")
    assert set(service) == {"$schema", "build", "deploy"}
    assert set(service["build"]) <= RAILWAY_BUILD
    assert set(service["deploy"]) <= RAILWAY_DEPLOY
    assert (ROOT / service["build"]["dockerfilePath"]).exists()
    assert service["deploy"]["restartPolicyType"] in {"ON_FAILURE", "ALWAYS", "NEVER"}


# Against the code


def test_images_are_small_safe_and_stop_in_order() -> None:
    api, worker = (Dockerfile.read(ROOT / name) for name in DOCKERFILES)
    assert api.build_stage == worker.build_stage
    for file in (api, worker):
        assert {image.count(".") for image in file.bases} == {2}, "a full version each"
        final = file.final_stage
        assert final["STOPSIGNAL"] == ["SIGTERM"]
        (user,) = final["USER"]
        assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user), "a number, so that a cluster can check it"
        assert "RUN" not in final, "nothing of the build stays in the image"
        assert all(json.loads(line)[0] == "luma-memory" for line in final["CMD"]), "exec form"
        assert len(final["HEALTHCHECK"]) == 1
        assert set(file.environment) & set(variable_names()) == {
            name for name in file.environment if name.startswith("MEMORY_")
        }


def test_every_command_that_is_deployed_exists() -> None:
    (compose,) = documents(DEPLOY / "compose.yaml")
    commands = [service.get("command", []) for service in compose["services"].values()]
    commands += [
        json.loads(Dockerfile.read(ROOT / name).final_stage["CMD"][0]) for name in DOCKERFILES
    ]
    commands += [shlex.split(line.partition(": ")[2]) for line in lines_of("Procfile")]
    for path in sorted((DEPLOY / "railway").glob("*.json")):
        deploy = json_file(path)["deploy"]
        started = re.search(r"luma-memory [^\"]*", deploy["startCommand"])
        assert started is not None
        commands += [shlex.split(text) for text in deploy.get("preDeployCommand", [])]
        commands.append(shlex.split(started.group()))
    for container in containers().values():
        commands.append(container.get("command", []))
    ours = [command for command in commands if command[:1] == ["luma-memory"]]
    assert len(ours) >= 9
    assert {command[1] for command in ours} == {"migrate", "serve", "worker"} <= set(COMMANDS)


def lines_of(name: str) -> list[str]:
    return (ROOT / name).read_text(encoding="utf-8").splitlines()


def containers() -> dict[str, Any]:
    """The container of each part of the cluster."""
    return {
        container["name"]: container
        for document in manifests().values()
        if "template" in document.get("spec", {})
        for container in document["spec"]["template"]["spec"]["containers"]
    }


def test_stopping_is_given_time() -> None:
    """An API needs its open requests' time, a worker a job's, or what it needs to hand back."""
    job_seconds = Settings.model_fields["worker_job_timeout_ms"].default / 1_000
    worker_seconds = job_seconds + STOP_GRACE_SECONDS
    (compose,) = documents(DEPLOY / "compose.yaml")
    grace = {
        name: float(service.get("stop_grace_period", "0s").removesuffix("s"))
        for name, service in compose["services"].items()
    }
    assert grace["api"] >= API_STOP_SECONDS
    assert grace["worker"] >= worker_seconds
    for part, seconds in {"api": API_STOP_SECONDS, "worker": worker_seconds}.items():
        railway = json_file(DEPLOY / "railway" / f"luma-memory-{part}.json")
        assert railway["deploy"]["drainingSeconds"] >= seconds
        pods = manifests()["Deployment", f"luma-memory-{part}"]["spec"]["template"]["spec"]
        assert pods["terminationGracePeriodSeconds"] >= seconds


def test_probes_ask_what_is_answered() -> None:
    api, worker = containers()["api"], containers()["worker"]
    environment = Dockerfile.read(ROOT / "Dockerfile").environment
    assert api["ports"][0]["containerPort"] == int(environment["MEMORY_PORT"])
    environment = Dockerfile.read(ROOT / "Dockerfile.worker").environment
    assert worker["ports"][0]["containerPort"] == int(environment["MEMORY_WORKER_METRICS_PORT"])
    # What a dead database would make fail must restart nothing.
    for container in (api, worker):
        for probe in ("startupProbe", "livenessProbe"):
            assert container[probe]["httpGet"]["path"].endswith("/health/live")
    assert api["readinessProbe"]["httpGet"]["path"] == "/api/v1/memory/health/ready"


def test_deployed_settings_are_settings_and_versions_are_this_one() -> None:
    (compose,) = documents(DEPLOY / "compose.yaml")
    named = {
        name
        for service in ("api", "worker")
        for name in compose["services"][service]["environment"]
    }
    named |= set(manifests()["ConfigMap", "luma-memory"]["data"])
    assert named <= set(variable_names())
    (kustomization,) = documents(DEPLOY / "kubernetes" / "kustomization.yaml")
    assert {image["newTag"] for image in kustomization["images"]} == {__version__}


def test_what_the_build_copies_is_sent_to_it() -> None:
    sent = {line[1:] for line in lines_of(".dockerignore") if line.startswith("!")}
    for name in DOCKERFILES:
        assert Dockerfile.read(ROOT / name).copied == sent
    assert all((ROOT / path).exists() for path in sent)


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_no_file_names_a_registry() -> None:
    for name in DOCKERFILES:
        for image in Dockerfile.read(ROOT / name).bases:
            assert "/" not in image
