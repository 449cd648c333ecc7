"""The project's own documents, read from the folder beside the workbench, so that they are there without a network."""

from __future__ import annotations

import re
from pathlib import Path

from settings import HERE

DOCS = HERE.parent / "docs"
_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")


def titles() -> dict[str, str]:
    """Name → title of each document, in the order in which a newcomer reads them."""
    first = ("quickstart", "data-formats", "workbench", "life-of-a-run", "troubleshooting")
    found = {path.stem: _title(path) for path in sorted(DOCS.glob("*.md"))}
    return {name: found[name] for name in (*(name for name in first if name in found), *sorted(set(found) - {*first}))}


def text(name: str) -> str:
    """The document as Markdown without pictures, its links to other documents led here; empty for an unknown name."""
    if name not in titles():
        return ""
    return _LINK.sub(_led, (DOCS / f"{name}.md").read_text(encoding="utf-8"))


def _led(link: re.Match[str]) -> str:
    picture, label, target = link.groups()
    if picture:
        return ""
    if target.startswith(("http://", "https://", "#")):
        return link.group(0)
    stem = Path(target.partition("#")[0]).name.removesuffix(".md")
    return f"[{label}](/system?doc={stem})" if (DOCS / f"{stem}.md").is_file() else label


def _title(path: Path) -> str:
    with path.open(encoding="utf-8") as file:
        return file.readline().lstrip("# ").strip() or path.stem
