"""A thousand datasets and a thousand runs: each page's script stays well below what a person notices as waiting."""

from __future__ import annotations

import time

import pytest

import recorded
from opening import Open
from recorded import Recorded

LIMIT = 1.5
"""Seconds of processor time for the client, the page and the mock service together."""


@pytest.fixture
def many(api: Recorded) -> Recorded:
    api.add("models", recorded.model())
    api.add("datasets", *(recorded.dataset(f"d{n}", f"Dataset {n}") for n in range(1000)))
    api.add(
        "experiments", *(recorded.experiment(f"e{n}", f"Run {n}", training_dataset_id=f"d{n}") for n in range(1000))
    )
    return api.add("evaluations", *(recorded.evaluation(f"v{n}", experiment_id=f"e{n}") for n in range(1000)))


@pytest.mark.parametrize("name", ["home", "datasets", "train"])
def test_a_page_over_a_thousand_rows_is_quick(name: str, many: Recorded, open_page: Open) -> None:
    # The first visit of a process imports what all later ones share.
    open_page(name)
    began = time.process_time()
    shown = open_page(name)
    took = time.process_time() - began
    assert not shown.exception
    assert took <= LIMIT


def test_all_thousand_are_there_and_a_search_finds_one(many: Recorded, open_page: Open) -> None:
    assert len(open_page("datasets").dataframe[0].value) == 1000
    assert list(open_page("datasets", q="dataset 517").dataframe[0].value["name"]) == ["Dataset 517"]


def test_home_looks_at_the_last_results_alone(many: Recorded, open_page: Open) -> None:
    many.asked.clear()
    open_page("home")
    assert len(many.asked) <= 20
