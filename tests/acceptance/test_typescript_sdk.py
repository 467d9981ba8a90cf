"""The TypeScript SDK with a running service: its page's examples, from an installed package."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

from tests.support.typescript_sdk import SDK, built_sdk, run_node

from luma_memory import __version__
from luma_memory.cli.processes import Stack

README = SDK / "README.md"
EXAMPLES = re.findall(r"^```ts\n(.*?)^```", README.read_text("utf-8"), re.MULTILINE | re.DOTALL)
PROMISED = re.compile(r"^// > (.*)$", re.MULTILINE)
CONFIGURATION = {
    "compilerOptions": {
        "target": "ES2022",
        "module": "NodeNext",
        "moduleResolution": "NodeNext",
        "lib": ["ES2023", "DOM", "DOM.Iterable", "DOM.AsyncIterable"],
        "types": [],
        "strict": True,
        "noUncheckedIndexedAccess": True,
    },
    "files": ["examples.ts"],
}


async def test_the_package_installs_and_its_examples_print_what_they_promise(
    stack: Stack, tmp_path: Path
) -> None:
    node = (await asyncio.to_thread(built_sdk)).node
    await asyncio.to_thread(install, tmp_path)
    code = "\n".join(EXAMPLES)
    program = code.replace("http://127.0.0.1:8080", stack.base_url)
    (tmp_path / "examples.ts").write_text(program, "utf-8")
    (tmp_path / "tsconfig.json").write_text(json.dumps(CONFIGURATION))
    compiler = str(SDK / "node_modules" / "typescript" / "bin" / "tsc")
    await asyncio.to_thread(run_node, node, compiler, folder=tmp_path)
    printed = await asyncio.to_thread(run_node, node, "examples.js", folder=tmp_path)
    assert printed.splitlines() == PROMISED.findall(code)
    assert len(EXAMPLES) > 6


def install(folder: Path) -> None:
    """The package as `npm pack` makes it, in a new project."""
    npm = shutil.which("npm")
    assert npm
    packing = [npm, "pack", "--silent", "--ignore-scripts", "--pack-destination", str(folder)]
    packed = subprocess.run(packing, cwd=SDK, check=True, capture_output=True, text=True)
    archive = folder / packed.stdout.strip()
    (folder / "package.json").write_text(json.dumps({"private": True, "type": "module"}))
    adding = [npm, "install", "--offline", "--no-audit", "--no-fund", "--silent", str(archive)]
    env = {**os.environ, "npm_config_cache": str(folder / "cache")}
    subprocess.run(adding, cwd=folder, check=True, env=env)
    names = {path.name for path in (folder / "node_modules" / "luma-memory").iterdir()}
    assert names == {"dist", "LICENSE", "README.md", "package.json"}


def test_the_package_has_the_version_and_no_address() -> None:
    package = json.loads((SDK / "package.json").read_text("utf-8"))
    assert (package["name"], package["version"]) == ("luma-memory", __version__)
    assert package.get("dependencies", {}) == {}
    assert "resolved" not in (SDK / "package-lock.json").read_text("utf-8")
