"""Other libraries verify what this service signs: each in an environment of its own.

`make test-integrations` installs them below build/integrations and runs these.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from luma_memory.domain.webhook_signatures import secret_text, signed_headers

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "build" / "integrations" / "webhooks"
pytestmark = pytest.mark.skipif(
    not os.environ.get("LUMA_TEST_INTEGRATIONS"), reason="make test-integrations installs these"
)
PYTHON_PACKAGES = ("standardwebhooks==1.1.0", "svix==2.9.1")
NODE_PACKAGES = ("standardwebhooks@1.1.1",)
KEYS = (bytes(range(32)), bytes(range(32, 64)))
BODY = '{"type":"block.active","timestamp":"2026-03-03T10:00:00Z","data":{"user_id":"änne"}}'
PYTHON = """
import json, sys
from {library} import Webhook
given = json.load(sys.stdin)
try:
    Webhook(given["secret"]).verify(given["body"].encode(), given["headers"])
    print("verified")
except Exception as error:
    print(type(error).__name__)
"""
NODE = """
import { Webhook } from "standardwebhooks";
let text = "";
for await (const chunk of process.stdin) text += chunk;
const given = JSON.parse(text);
try {
  new Webhook(given.secret).verify(given.body, given.headers);
  console.log("verified");
} catch (error) {
  console.log(error.constructor.name);
}
"""


@pytest.fixture(scope="module")
def python() -> Path:
    python = FOLDER / "python" / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(FOLDER / "python")], check=True)
    subprocess.run([python, "-m", "pip", "install", "--quiet", *PYTHON_PACKAGES], check=True)
    return python


@pytest.fixture(scope="module")
def node() -> Path:
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not installed")
    folder = FOLDER / "node"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "package.json").write_text('{"type": "module", "private": true}\n')
    subprocess.run([npm, "install", "--silent", *NODE_PACKAGES], cwd=folder, check=True)
    (folder / "verify.mjs").write_text(NODE)
    return folder / "verify.mjs"


def request(*, secret: bytes, timestamp: float | None = None, body: str = BODY) -> str:
    """A request as a delivery sends it while two secrets are valid."""
    moment = int(time.time() if timestamp is None else timestamp)
    headers = signed_headers(KEYS, message_id="evt_1", timestamp=moment, body=BODY.encode())
    return json.dumps({"secret": secret_text(secret), "headers": headers, "body": body})


CASES: dict[str, tuple[dict[str, Any], bool]] = {
    "the new secret": ({"secret": KEYS[0]}, True),
    "the secret before": ({"secret": KEYS[1]}, True),
    "another secret": ({"secret": bytes(32)}, False),
    "another body": ({"secret": KEYS[0], "body": BODY.replace("änne", "bob")}, False),
    "long ago": ({"secret": KEYS[0], "timestamp": 1_700_000_000}, False),
}


@pytest.mark.parametrize("library", ["standardwebhooks", "svix.webhooks"])
@pytest.mark.parametrize("case", CASES)
def test_python_libraries(python: Path, library: str, case: str) -> None:
    _check([str(python), "-c", PYTHON.replace("{library}", library)], case)


@pytest.mark.parametrize("case", CASES)
def test_node_library(node: Path, case: str) -> None:
    _check(["node", str(node)], case)


def _check(command: list[str], case: str) -> None:
    given, is_good = CASES[case]
    ended = subprocess.run(
        command, input=request(**given), capture_output=True, text=True, check=True, timeout=60
    )
    assert ended.stdout.strip() == ("verified" if is_good else "WebhookVerificationError")
