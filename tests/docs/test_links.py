"""Every link from a page of ours to another leads to a file and a heading that are there."""

from __future__ import annotations

import re
from pathlib import Path

_LINK = re.compile(r"\]\((?P<to>[^)\s]+)\)|src=\"(?P<image>[^\"]+)\"")
_CODE = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)


_BUILT = "workspaces"


def pages(root: Path) -> list[Path]:
    """All of ours, and none that environments, caches and builds leave in the tree."""
    folders = (path for path in root.iterdir() if path.is_dir() and path.name != _BUILT)
    ours = (path for path in folders if not path.name.startswith("."))
    found = [*root.glob("*.md"), *(page for folder in ours for page in folder.rglob("*.md"))]
    assert root / "docs/README.md" in found
    return found


def anchors(page: Path) -> set[str]:
    """The headings of a page, as GitHub makes fragments of them."""
    lines = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", line.strip().lower()) for line in lines)
    return {line.replace(" ", "-") for line in plain}


def test_every_link_leads_somewhere(root: Path) -> None:
    dead = []
    for page in pages(root):
        text = _CODE.sub("", page.read_text(encoding="utf-8"))
        for link in _LINK.finditer(text):
            to = link["to"] or link["image"]
            if re.match(r"[a-z]+:", to):
                continue  # elsewhere: what others publish decides no test
            name, _, anchor = to.partition("#")
            target = page.parent / name if name else page
            if not target.exists() or (anchor and anchor not in anchors(target)):
                dead.append(f"{page.relative_to(root)}: {to}")
    assert not dead
