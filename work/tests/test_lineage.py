"""The picture of where a model comes from."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

from components import lineage

NODES: list[dict[str, Any]] = [
    {"id": "m1", "type": "model", "name": "SmolLM2", "details": {"model_type": "base"}, "missing": False},
    {"id": "d1", "type": "dataset", "name": "Tickets <script>", "details": {"sha256": "05"}, "missing": False},
    {"id": "d2", "type": "dataset", "name": "A data set with a very long name indeed", "details": {}, "missing": True},
    {"id": "e1", "type": "experiment", "name": "Run", "details": {}, "missing": False},
    {"id": "m2", "type": "model", "name": "Tuned", "details": {"model_type": "fine_tuned"}, "missing": False},
    {"id": "v1", "type": "evaluation", "name": "Score", "details": {}, "missing": False},
    {"id": "x1", "type": "export", "name": "gguf-f16", "details": {}, "missing": False},
]
EDGES = [
    {"source": source, "target": target, "label": ""}
    for source, target in [
        ("m1", "e1"),
        ("d1", "e1"),
        ("d2", "e1"),
        ("e1", "m2"),
        ("m2", "v1"),
        ("m2", "x1"),
        ("m2", "?"),
    ]
]


SVG = "{http://www.w3.org/2000/svg}"


def drawn() -> ElementTree.Element:
    return ElementTree.fromstring(lineage.picture(NODES, EDGES))


def every(tag: str) -> list[ElementTree.Element]:
    return [*drawn().iter(f"{SVG}{tag}")]


def texts() -> list[str]:
    return [element.text or "" for element in every("text")]


def test_every_node_and_every_line_between_known_ones_is_drawn() -> None:
    assert len(every("rect")) == len(NODES)
    assert len(every("path")) == len(EDGES) - 1


def test_data_and_base_stand_left_of_the_run_the_model_right_of_it() -> None:
    x = {rect.get("x"): None for rect in every("rect")}
    assert len(x) == 4
    place = dict(zip([node["id"] for node in NODES], (int(r.get("x", "0")) for r in every("rect")), strict=True))
    assert place["m1"] == place["d1"] < place["e1"] < place["m2"] < place["v1"] == place["x1"]


def test_boxes_of_a_column_do_not_touch() -> None:
    boxes = [(int(r.get("x", "0")), int(r.get("y", "0"))) for r in every("rect")]
    for x, y in boxes:
        near = [other for other in boxes if other[0] == x and 0 < abs(other[1] - y) < 54]
        assert near == []


def test_a_deleted_thing_says_so_and_leads_nowhere() -> None:
    assert "data (deleted)" in texts()
    assert lineage.steps(NODES) == [
        ("models", "m1", "base model", "SmolLM2"),
        ("datasets", "d1", "data", "Tickets <script>"),
        ("run", "e1", "run", "Run"),
        ("models", "m2", "model", "Tuned"),
        ("evaluations", "v1", "evaluation", "Score"),
    ]


def test_names_are_text_and_long_ones_are_cut_with_the_whole_on_hover() -> None:
    assert "Tickets <script>" in texts()
    assert any(text.endswith("…") for text in texts())
    assert "A data set with a very long name indeed" in [title.text for title in every("title")]


def test_who_cannot_see_hears_it() -> None:
    assert "base model SmolLM2 → run Run; data Tickets <script> → run Run" in str(drawn().get("aria-label"))
    assert lineage.picture([], []) == ""


def test_the_picture_can_be_read_on_a_dark_page_too() -> None:
    light, dark = lineage.picture(NODES, EDGES), lineage.picture(NODES, EDGES, dark=True)
    assert 'fill="#1b2333"' in light
    assert 'fill="#e6eaf2"' in dark
