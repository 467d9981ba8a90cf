"""The interactive API reference: Swagger UI from an installed package, on the API's own origin.

Nothing is loaded from another host: an installation without internet access could not reach it, and
its scripts could run next to an API key.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from html import escape
from importlib.resources import files
from typing import Final

CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline';"
    " img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'"
)
# What the page loads, relative to its own path.
ASSETS: Final = ("swagger-ui-bundle.js", "swagger-ui.css", "reference.js", "reference.css")
_PACKAGED: Final = ("swagger-ui-bundle.js", "swagger-ui.css")
_MEDIA_TYPES: Final = {"js": "text/javascript", "css": "text/css"}
# validatorUrl would send the document to a public service. Keys are not stored in the browser.
_START: Final = """\
SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#reference",
  deepLinking: true,
  displayRequestDuration: true,
  filter: true,
  persistAuthorization: false,
  validatorUrl: null,
});
"""
# Swagger UI lays out for wide screens: long names and examples must wrap or scroll on a phone.
STYLE: Final = """\
body { margin: 0; background: #fff }
.swagger-ui { overflow-wrap: anywhere }
.swagger-ui .loading-container { overflow-wrap: normal }
.swagger-ui .parameters-col_name { min-width: 160px }
.swagger-ui .wrapper { padding: 0 12px; max-width: 1200px }
.swagger-ui .topbar { display: none }
.swagger-ui .scheme-container { padding: 12px 0 }
@media (max-width: 760px) {
  .swagger-ui .opblock .opblock-summary { flex-wrap: wrap }
  .swagger-ui .opblock .opblock-summary-path { max-width: none; font-size: 14px }
  .swagger-ui .opblock .opblock-summary-description { padding: 2px 6px; text-align: left }
  .swagger-ui .opblock-section-header { flex-wrap: wrap; padding: 8px 12px }
  .swagger-ui table { display: block; max-width: 100%; overflow-x: auto }
  .swagger-ui .responses-inner, .swagger-ui .opblock-body .parameters-container { padding: 8px }
  .swagger-ui .opblock-description-wrapper { padding: 8px 12px }
  .swagger-ui .response-col_status { min-width: 48px }
  .swagger-ui .parameters-col_name { width: 40%; min-width: 110px }
  .swagger-ui .model-box, .swagger-ui .highlight-code { max-width: 100%; overflow-x: auto }
  .swagger-ui .info .title { font-size: 26px }
  .swagger-ui input, .swagger-ui textarea, .swagger-ui select { max-width: 100%; min-width: 0 }
}
"""


@dataclass(frozen=True, slots=True)
class Asset:
    content: bytes
    media_type: str


def reference_page(title: str) -> str:
    """The page; its assets and the OpenAPI document are loaded by relative URLs."""
    return (
        "<!doctype html><html lang=en><meta charset=utf-8>"
        "<meta name=viewport content='width=device-width, initial-scale=1'>"
        f"<title>{escape(title)}</title>"
        "<link rel=icon href='data:,'>"
        "<link rel=stylesheet href=docs/swagger-ui.css>"
        "<link rel=stylesheet href=docs/reference.css>"
        "<div id=reference></div>"
        "<noscript>This reference needs JavaScript. The OpenAPI document is at "
        "<a href=openapi.json>openapi.json</a>.</noscript>"
        "<script src=docs/swagger-ui-bundle.js></script>"
        "<script src=docs/reference.js></script></html>"
    )


@cache
def reference_assets() -> Mapping[str, Asset]:
    """By name, one for each of `ASSETS`. Read once, on first use."""
    packaged = files("fastapi_offline") / "static"
    contents = {name: (packaged / name).read_bytes() for name in _PACKAGED}
    contents |= {"reference.js": _START.encode(), "reference.css": STYLE.encode()}
    return {name: Asset(contents[name], _MEDIA_TYPES[name.rpartition(".")[2]]) for name in ASSETS}
