"""Rows that share their beginning cost less and learn the very same."""

from __future__ import annotations

import pytest
import torch
from tiny_models import ARCHITECTURES, tiny_model

from slm import causal
from slm.causal import row_losses
from slm.data.prefix import common_prefix, lay_out, worthwhile
from slm.data.render import IGNORED, Rendered


def row(ids: list[int], learned_from: int) -> Rendered:
    labels = [IGNORED] * learned_from + ids[learned_from:]
    return Rendered(1, ids, labels, ids[:learned_from], None, False)


def task(count: int = 4, *, shared: int = 30, seed: int = 0) -> list[Rendered]:
    """Rows with `shared` common tokens, then a question and an answer of their own lengths."""
    dice = torch.Generator().manual_seed(seed)
    beginning = torch.randint(3, 400, (shared,), generator=dice).tolist()
    rows = []
    for number in range(count):
        own = torch.randint(3, 400, (6 + 3 * number,), generator=dice).tolist()
        rows.append(row([*beginning, number + 3, *own], shared + 3 + number))
    return rows


def test_the_common_beginning_ends_before_anything_learned() -> None:
    rows = task()
    assert common_prefix(rows) == 30
    assert common_prefix([row([1, 2, 3, 4], 2), row([1, 2, 3, 5], 2)]) == 1
    assert common_prefix([row([1, 2, 3], 3), row([1, 2, 3], 3)]) == 2
    assert common_prefix([row([1, 2], 1), row([9, 2], 1)]) == 0
    assert common_prefix([row([1, 2, 3], 0), row([1, 2, 3], 0)]) == 0


def test_it_is_taken_only_where_it_costs_less() -> None:
    rows = task(8, shared=60)
    assert worthwhile(rows, common_prefix(rows), width=576)
    assert not worthwhile(rows, 0, width=576)
    assert not worthwhile(rows[:1], 60, width=576)
    long = [row([7, number, *range(3000)], 2000) for number in range(8)]
    assert not worthwhile(long, common_prefix(long), width=64)


def test_no_row_sees_another() -> None:
    rows = task(3, shared=4)
    laid = lay_out(rows, 4)
    seen = laid["attention_mask"][0, 0] == 0
    begin = 4
    for one in rows:
        end = begin + len(one.input_ids) - 4
        assert seen[begin:end, :4].all()
        assert seen[begin:end, begin:end].equal(torch.ones(end - begin, end - begin).tril().bool())
        assert not seen[begin:end, 4:begin].any()
        assert not seen[begin:end, end:].any()
        assert laid["position_ids"][0, begin:end].tolist() == list(range(4, len(one.input_ids)))
        begin = end
    assert int((laid["labels"] != IGNORED).sum()) == sum(one.learned for one in rows)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_loss_and_gradients_are_those_of_the_rows_alone(architecture: str) -> None:
    rows = task(5)
    model = tiny_model(architecture)
    width = causal.sharing_width(model.config, device="cpu")
    assert width is not None
    found = []
    for share in (None, width):
        inputs = causal.collate(rows, pad_id=2, share=share)
        assert ("position_ids" in inputs) == (share is not None)
        assert int(inputs["tokens"]) == sum(len(one.input_ids) for one in rows)
        model.zero_grad()
        loss = causal.loss_sum(model, inputs)
        loss.backward()
        found.append(
            (loss.detach(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
        )
    (plain, plain_gradients), (shared, shared_gradients) = found
    assert shared == pytest.approx(float(plain), rel=1e-6)
    for name, gradient in plain_gradients.items():
        torch.testing.assert_close(shared_gradients[name], gradient, rtol=1e-4, atol=1e-5)


def test_each_row_gets_its_own_score() -> None:
    """The score of a row does not depend on the rows that it is scored with."""
    rows = task(5)
    model = tiny_model("llama").eval()
    together = row_losses(model, rows)
    alone = [row_losses(model, [one])[0] for one in rows]
    for one, other in zip(together, alone, strict=True):
        assert one.loss == pytest.approx(other.loss, rel=1e-5)
        assert (one.tokens, one.correct) == (other.tokens, other.correct)


def test_models_with_windows_get_plain_rows() -> None:
    config = tiny_model("llama").config
    config.sliding_window = 16
    assert causal.sharing_width(config, device="cpu") is None
    config.sliding_window = None
    config.model_type = "gemma3"
    assert causal.sharing_width(config, device="cpu") is None
