"""The OpenAPI document as one self-contained HTML page, which loads nothing from elsewhere."""

from __future__ import annotations

from html import escape

import msgspec

from serve.gateway.answers.fixes import Json

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 56rem; margin: 2rem auto; padding: 0 1rem }
summary { cursor: pointer; padding: .3rem 0 }
code, pre { font: 14px/1.45 ui-monospace, monospace }
pre { overflow: auto; padding: .8rem; border: 1px solid #8884; border-radius: 6px }
b { display: inline-block; min-width: 3.2rem }
:root { color-scheme: light dark }
"""


def page(document: Json) -> str:
    """Every operation, and the schemas it speaks of."""
    info = document["info"]
    operations = "".join(
        _operation(path, method, told)
        for path, methods in document["paths"].items()
        for method, told in methods.items()
    )
    schemas = "".join(_schema(n, s) for n, s in document["components"]["schemas"].items())
    title = escape(info["title"])
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width"><link rel="icon" href="data:,">'
        f"<title>{title}</title><style>{STYLE}</style><h1>{title}</h1><p>{escape(info['description'])}</p>"
        f'<p><a href="openapi.json">openapi.json</a></p>'
        f"<h2>Paths</h2>{operations}<h2>Schemas</h2>{schemas}</html>"
    )


def _operation(path: str, method: str, told: Json) -> str:
    head = f"<b>{method.upper()}</b> <code>{escape(path)}</code> {escape(told['summary'])}"
    return f"<details><summary>{head}</summary>{_shown(told)}</details>"


def _schema(name: str, schema: Json) -> str:
    head = f"<code>{escape(name)}</code>"
    return f'<details id="{escape(name)}"><summary>{head}</summary>{_shown(schema)}</details>'


def _shown(found: Json) -> str:
    return f"<pre>{escape(msgspec.json.format(msgspec.json.encode(found)).decode())}</pre>"
