"""Tables by label as scikit-learn counts them."""

from __future__ import annotations

import numpy as np
import pytest

from slm import labels

TRUTH = list("aaaabbbcc")
TUNED = list("aaabbbbca")
BASE = ["a"] * 8 + ["z"]


def test_by_label_is_scikit_learns() -> None:
    from sklearn.metrics import precision_recall_fscore_support

    found = labels.by_label(TRUTH, {"base": BASE, "tuned": TUNED})
    names = [row["label"] for row in found]
    assert names == ["a", "b", "c", "z"]
    for model, given in (("base", BASE), ("tuned", TUNED)):
        wanted = precision_recall_fscore_support(TRUTH, given, labels=names, zero_division=0)
        for at, row in enumerate(found):
            assert row["support"] == wanted[3][at]
            assert list(row[model].values()) == pytest.approx([column[at] for column in wanted[:3]])


def test_confusion_has_true_labels_in_lines() -> None:
    from sklearn.metrics import confusion_matrix

    found = labels.confusion(TRUTH, {"base": BASE, "tuned": TUNED})
    assert found is not None
    assert found["labels"] == ["a", "b", "c", "z"]
    for model, given in (("base", BASE), ("tuned", TUNED)):
        assert np.array_equal(found[model], confusion_matrix(TRUTH, given, labels=found["labels"]))


def test_a_matrix_that_nobody_reads_is_left_out() -> None:
    many = [str(number) for number in range(labels.MOST_LABELS + 1)]
    assert labels.confusion(many, {"tuned": many}) is None
    assert len(labels.by_label(many, {"tuned": many})) == len(many)


def test_label_metrics() -> None:
    found = labels.label_metrics(TRUTH, TUNED)
    assert found["accuracy"].value == pytest.approx(7 / 9)
    assert found["accuracy"].is_rate
    assert not found["f1"].is_rate
