"""Where a model comes from and what came of it, as a picture: boxes in columns from left to right, lines between.

The picture is an image (Streamlit takes SVG out of HTML), so it brings its own colours; `steps` are links beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from components import words

_COLUMNS = (("dataset", "model:base"), ("experiment", "run"), ("model",), ("evaluation", "export"))
_TITLES = {
    "dataset": "data",
    "model:base": "base model",
    "model": "model",
    "experiment": "run",
    "run": "attempt",
    "evaluation": "evaluation",
    "export": "export",
}
_PAGES = {"dataset": "datasets", "model": "models", "experiment": "run", "evaluation": "evaluations"}
_WIDTH, _HEIGHT, _GAP_X, _GAP_Y, _EDGE = 214, 54, 54, 18, 6


def picture(nodes: Sequence[Mapping[str, Any]], edges: Sequence[Mapping[str, Any]], *, dark: bool = False) -> str:
    """The graph as SVG for a light or a dark page; what was deleted is dashed."""
    places = _places(nodes)
    if not places:
        return ""
    right = max(x for x, _ in places.values()) + _WIDTH + _EDGE
    bottom = max(y for _, y in places.values()) + _HEIGHT + _EDGE
    lines = [_line(places[edge["source"]], places[edge["target"]]) for edge in edges if _known(edge, places)]
    boxes = [_box(node, *places[node["id"]]) for node in nodes if node["id"] in places]
    ink, paper = ("#e6eaf2", "#1b2440") if dark else ("#1b2333", "#eef2ff")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {right} {bottom}" width="{right}" height="{bottom}" '
        f'font-family="system-ui, sans-serif" fill="{ink}" role="img" '
        f'aria-label="{words.escaped(described(nodes, edges))}"><style>{_STYLE}.node{{fill:{paper}}}</style>'
        f"{''.join(lines)}{''.join(boxes)}</svg>"
    )


_STYLE = (
    ".node{stroke:#5b7cf0;stroke-width:1.2}.gone{fill:none;stroke:#888;stroke-dasharray:5 4}"
    ".edge{fill:none;stroke:#888;stroke-width:1.5}.kind{opacity:.75;font-size:12px}.name{font-size:13px;font-weight:600}"
)


def steps(nodes: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, str, str]]:
    """(page, id, what it is, its name) of everything in the picture that has a page, from left to right."""
    placed = [node for kinds in _COLUMNS for node in nodes if _kind(node) in kinds]
    return [
        (_PAGES[node["type"]], str(node["id"]), _TITLES.get(_kind(node), node["type"]), str(node["name"]))
        for node in placed
        if node["type"] in _PAGES and not node.get("missing")
    ]


def described(nodes: Sequence[Mapping[str, Any]], edges: Sequence[Mapping[str, Any]]) -> str:
    """The graph in words, for who cannot see it."""
    names = {node["id"]: f"{_TITLES.get(_kind(node), node['type'])} {node['name']}" for node in nodes}
    said = [f"{names[edge['source']]} → {names[edge['target']]}" for edge in edges if _known(edge, names)]
    return "Lineage: " + ("; ".join(said) or ", ".join(names.values()))


def _known(edge: Mapping[str, Any], places: Mapping[str, Any]) -> bool:
    return edge["source"] in places and edge["target"] in places


def _kind(node: Mapping[str, Any]) -> str:
    if node["type"] == "model" and (node.get("details") or {}).get("model_type") == "base":
        return "model:base"
    return str(node["type"])


def _places(nodes: Sequence[Mapping[str, Any]]) -> dict[str, tuple[int, int]]:
    """Left upper corner of each node, column by column; columns that hold nothing take no room."""
    columns = [[node for node in nodes if _kind(node) in kinds] for kinds in _COLUMNS]
    columns = [column for column in columns if column]
    tallest = max((len(column) for column in columns), default=0)
    places = {}
    for at, column in enumerate(columns):
        first = (tallest - len(column)) * (_HEIGHT + _GAP_Y) // 2
        for row, node in enumerate(column):
            places[str(node["id"])] = (_EDGE + at * (_WIDTH + _GAP_X), _EDGE + first + row * (_HEIGHT + _GAP_Y))
    return places


def _line(source: tuple[int, int], target: tuple[int, int]) -> str:
    x1, y1 = source[0] + _WIDTH, source[1] + _HEIGHT // 2
    x2, y2 = target[0], target[1] + _HEIGHT // 2
    if x2 <= x1:  # in the same column, or backwards: from edge to edge
        x1, x2 = source[0] + _WIDTH // 2, target[0] + _WIDTH // 2
        y1, y2 = sorted((source[1] + _HEIGHT, target[1]), key=lambda y: abs(y - target[1]), reverse=True)
    middle = (x1 + x2) // 2
    return f'<path class="edge" d="M{x1},{y1} C{middle},{y1} {middle},{y2} {x2},{y2}"/>'


def _box(node: Mapping[str, Any], x: int, y: int) -> str:
    kind, missing = _kind(node), bool(node.get("missing"))
    title = f"{_TITLES.get(kind, kind)}{' (deleted)' if missing else ''}"
    name = _short(str(node["name"]))
    return (
        f"<g><title>{words.escaped(node['name'])}</title>"
        f'<rect x="{x}" y="{y}" width="{_WIDTH}" height="{_HEIGHT}" rx="8" class="{"gone" if missing else "node"}"/>'
        f'<text x="{x + 12}" y="{y + 21}" class="kind">{words.escaped(title)}</text>'
        f'<text x="{x + 12}" y="{y + 41}" class="name">{words.escaped(name)}</text></g>'
    )


def _short(name: str, most: int = 22) -> str:
    """As much as fits into a box in the widest of the fonts that a browser may choose."""
    return name if len(name) <= most else f"{name[: most - 1]}…"
