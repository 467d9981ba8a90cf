"""Every file an operator deploys with: read by its own linter or schema, held against the code."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any

import asyncpg
import jsonschema
import pytest
import yaml
from tests.support.dockerfile import Dockerfile
from tests.support.servers import Servers

from luma_memory import __version__
from luma_memory.cli.commands import COMMANDS
from luma_memory.domain.errors import SetupError
from luma_memory.postgres.database import Database
from luma_memory.postgres.dumps import dump
from luma_memory.settings import Settings, variable_names
from luma_memory.worker.worker import STOP_GRACE_SECONDS

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
SCHEMAS = ROOT / "tests" / "schemas"
DOCKERFILES = ("Dockerfile", "Dockerfile.worker")
YAML_FILES = [*sorted(DEPLOY.rglob("*.yaml")), Path(__file__).with_name("alerts_test.yaml")]
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
    """Every container of the cluster by its name, those that come first included."""
    pods = [
        document["spec"]["template"]["spec"]
        for document in manifests().values()
        if "template" in document.get("spec", {})
    ]
    return {
        container["name"]: container
        for pod in pods
        for container in [*pod.get("initContainers", []), *pod["containers"]]
    }


@pytest.mark.parametrize("part", ["api", "worker"])
def test_nothing_of_a_cluster_starts_before_the_schema_is_there(part: str) -> None:
    """The migration's job and the deployments are applied together."""
    pod = manifests()["Deployment", f"luma-memory-{part}"]["spec"]["template"]["spec"]
    (first,) = pod["initContainers"]
    (main,) = pod["containers"]
    assert first["command"][:4] == ["luma-memory", "migrate", "--check", "--wait"]
    assert float(first["command"][4]) >= 600
    # The same software with the same settings: it asks for the schema this very version needs.
    assert (first["image"], first["envFrom"]) == (main["image"], main["envFrom"])
    job = containers()["migrate"]
    assert job["command"] == ["luma-memory", "migrate"]
    assert job["envFrom"] == main["envFrom"]


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="needs kubectl")
def test_the_manifests_are_put_together() -> None:
    command = ["kubectl", "kustomize", str(DEPLOY / "kubernetes")]
    made = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert made.returncode == 0, made.stderr
    found = list(yaml.safe_load_all(made.stdout))
    assert len(found) == len(manifests()) + 1  # the generated ConfigMap
    (settings,) = [one["metadata"]["name"] for one in found if one["kind"] == "ConfigMap"]
    assert re.fullmatch(r"luma-memory-[a-z0-9]{10}", settings)
    referenced = set(re.findall(r"configMapRef:\n +name: (\S+)", made.stdout))
    assert referenced == {settings}
    images = set(re.findall(r"^ +image: (\S+)$", made.stdout, re.MULTILINE))
    assert images == {f"luma-memory-{part}:{__version__}" for part in ("api", "worker")}
    for document in found:
        validator(document["kind"]).validate(document)


PASSWORD = "p@ss/w:rd #?%20'$\"\\"


def with_variables(value: str, **variables: str) -> str:
    """As Compose puts variables in: once, and not within what was put in."""
    return re.sub(r"\$\{(\w+)[^}]*\}", lambda match: variables[match.group(1)], value)


async def test_any_password_opens_the_database_of_the_compose_file(
    servers: Servers, dsn: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (compose,) = documents(DEPLOY / "compose.yaml")
    services = compose["services"]
    given = {"POSTGRES_PASSWORD": PASSWORD, "MEMORY_ADMIN_KEY": "x" * 24}
    expected = with_variables(services["postgres"]["environment"]["POSTGRES_PASSWORD"], **given)
    assert expected == PASSWORD
    async with role_with_password(servers.address(18), dsn, "luma", expected):
        for name in ("migrate", "api", "worker"):
            environment = {
                key: with_variables(value, **given)
                for key, value in services[name]["environment"].items()
            }
            monkeypatch.setenv("PGPASSWORD", environment["PGPASSWORD"])
            url = environment["DATABASE_URL"].replace(
                "@postgres:5432/luma_memory", f"@{dsn.partition('@')[2]}"
            )
            assert url != environment["DATABASE_URL"]
            database = Database(url, pool_size=1)
            assert [tuple(row) for row in await database.fetch("SELECT current_user")] == [
                ("luma",)
            ]
            if name == "worker":  # `luma-memory backup` in it
                await dump(database, url, tmp_path / "memory.dump")
            await database.close()
        monkeypatch.setenv("PGPASSWORD", "another")
        with pytest.raises(SetupError):
            await Database(url, pool_size=1).open()


@asynccontextmanager
async def role_with_password(
    server: str, dsn: str, role: str, password: str
) -> AsyncIterator[None]:
    """A role of the test's server, which asks it alone for a password. It may do everything."""
    admin = await asyncpg.connect(server)
    quoted = await admin.fetchval("SELECT quote_literal($1::text)", password)
    await admin.execute(f"CREATE ROLE {role} SUPERUSER LOGIN PASSWORD {quoted}")
    rules = Path(await admin.fetchval("SHOW hba_file"))
    before = rules.read_text(encoding="utf-8")  # noqa: ASYNC240 - a small file of the test
    rules.write_text(f"local all {role} scram-sha-256\n{before}")  # noqa: ASYNC240
    await admin.execute("SELECT pg_reload_conf()")
    try:
        yield
    finally:
        rules.write_text(before)  # noqa: ASYNC240
        await admin.execute("SELECT pg_reload_conf()")
        await admin.execute(f"DROP ROLE {role}")
        await admin.close()


def test_stopping_is_given_time() -> None:
    """An API needs time for its open requests, a worker for a job or for releasing its jobs."""
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


def test_probes_use_existing_routes() -> None:
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
    } - {"PGPASSWORD"}  # the driver's own
    (kustomization,) = documents(DEPLOY / "kubernetes" / "kustomization.yaml")
    (generated,) = kustomization["configMapGenerator"]
    named |= {literal.partition("=")[0] for literal in generated["literals"]}
    assert named <= set(variable_names())
    assert {image["newTag"] for image in kustomization["images"]} == {__version__}


def test_a_changed_setting_rolls_the_pods() -> None:
    """A generated ConfigMap has a digest in its name; a plain one changes under running pods."""
    (kustomization,) = documents(DEPLOY / "kubernetes" / "kustomization.yaml")
    assert [entry["name"] for entry in kustomization["configMapGenerator"]] == ["luma-memory"]
    assert not kustomization.get("generatorOptions", {}).get("disableNameSuffixHash")
    assert not any(kind == "ConfigMap" for kind, _ in manifests())


def test_compose_builds_each_image_once() -> None:
    (compose,) = documents(DEPLOY / "compose.yaml")
    services = compose["services"].values()
    built = [service["image"] for service in services if "build" in service]
    assert sorted(built) == ["luma-memory-api", "luma-memory-worker"]
    for service in services:
        if service["image"] in built and "build" not in service:
            assert service["pull_policy"] == "never"


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
