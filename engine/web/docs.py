"""The API's description as a page: Swagger UI, served from here, under a policy that lets nothing else in.

The files in `swagger/` are those of swagger-ui-dist 5.35.0 (Apache 2.0, see its LICENSE and NOTICE), compressed once.
"""

from __future__ import annotations

import gzip
from functools import cache
from pathlib import Path
from typing import Final

from .problems import unknown_path
from .table import Call
from .wire import Answer

# Swagger UI shows its small pictures as `data:`; everything else comes from here, and no script stands in the page.
POLICY: Final = "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"

# Addresses are relative, so that the page finds its files wherever the application is mounted.
PAGE: Final = b"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>workflow-engine</title>
<link rel="icon" href="docs/favicon-32x32.png">
<link rel="stylesheet" href="docs/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""
START: Final = b"""SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  validatorUrl: null,
});
"""
FOLDER: Final = Path(__file__).with_name("swagger")
FILES: Final = {
    "swagger-ui.css": "text/css; charset=utf-8",
    "swagger-ui-bundle.js": "text/javascript; charset=utf-8",
    "favicon-32x32.png": "image/png",
    "start.js": "text/javascript; charset=utf-8",
}
"""The only ones: a name is looked up here, and never made into a path."""


async def get_docs(call: Call) -> Answer:
    """`GET /docs`."""
    return Answer(data=PAGE, headers={"Content-Security-Policy": POLICY}, content_type="text/html; charset=utf-8")


async def get_docs_file(call: Call) -> Answer:
    """`GET /docs/{file}`."""
    name = call.path["file"]
    if name not in FILES:
        raise unknown_path()
    headers = {"Cache-Control": "public, max-age=86400", "Vary": "Accept-Encoding"}
    if name == "start.js":
        return Answer(data=START, headers=headers, content_type=FILES[name])
    if name.endswith(".png"):
        return Answer(data=(FOLDER / name).read_bytes(), headers=headers, content_type=FILES[name])
    body = _packed(name)
    if "gzip" in (call.header(b"accept-encoding") or ""):
        headers["Content-Encoding"] = "gzip"
    else:
        body = gzip.decompress(body)
    return Answer(data=body, headers=headers, content_type=FILES[name])


@cache
def _packed(name: str) -> bytes:
    return (FOLDER / f"{name}.gz").read_bytes()
