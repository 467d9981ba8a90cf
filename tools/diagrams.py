"""Draw the Mermaid diagrams of docs/ as SVG. Run it after changing one.

    npm install mermaid; python -m tools.diagrams node_modules/mermaid/dist/mermaid.min.js

The site shows docs/diagrams/DIGEST.svg where a page has the source with that digest, because the
theme would load Mermaid from a third party's server. Needs Chromium; a test fails if one is
missing.
"""

from __future__ import annotations

import hashlib
import html
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

DOCS = Path(__file__).resolve().parents[1] / "docs"
FENCE = re.compile(r"^```mermaid\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PAGE = """<!doctype html><meta charset=utf-8><body><pre id=source>{source}</pre>
<script>{mermaid}</script>
<script>
mermaid.initialize({{startOnLoad: false, theme: "neutral", securityLevel: "strict"}});
mermaid.render("{name}", document.getElementById("source").textContent)
  .then(drawn => {{ document.body.innerHTML = drawn.svg; document.body.id = "drawn"; }});
</script>"""


def drawing(source: str) -> Path:
    """Where the drawing of a diagram is or would be."""
    digest = hashlib.sha256(source.encode()).hexdigest()[:12]
    return DOCS / "diagrams" / f"{digest}.svg"


def sources() -> Iterator[tuple[Path, str]]:
    """Every diagram with its page."""
    for page in sorted(DOCS.rglob("*.md")):
        for match in FENCE.finditer(page.read_text(encoding="utf-8")):
            yield page, match.group(1)


def _draw(source: str, mermaid: str) -> str:
    name = f"diagram-{drawing(source).stem}"
    page = _PAGE.format(source=html.escape(source), mermaid=mermaid, name=name)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "page.html")
        file.write_text(page, encoding="utf-8")
        command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
        command += ["--virtual-time-budget=10000", f"file://{file}"]
        shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    found = re.search(r"<svg.*</svg>", shown.stdout, re.DOTALL)
    if found is None or 'id="drawn"' not in shown.stdout:
        raise SystemExit(f"Mermaid did not draw this:\n{source}")
    return found.group().replace("\n", " ") + "\n"


def main() -> None:
    mermaid = Path(sys.argv[1]).read_text(encoding="utf-8")
    expected = {drawing(source): source for _, source in sources()}
    for path in (DOCS / "diagrams").glob("*.svg"):
        if path not in expected:
            path.unlink()
    for path, source in expected.items():
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            path.write_text(_draw(source, mermaid), encoding="utf-8")
            print(f"drew {path.name}")


if __name__ == "__main__":
    main()
