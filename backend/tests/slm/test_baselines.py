"""What anyone should beat: fitted on training rows alone, the same for the same seed, absent where it cannot be."""

from __future__ import annotations

import math
import random

import pytest

from slm import baselines
from slm.data.examples import Classification, Message, Messages, PromptCompletion, Text
from slm.data.render import IGNORED, Rendered
from slm.overlap import Numbered
from tests.slm.tiny_models import tiny_tokenizer

POSITIVE, NEGATIVE = ["good", "fine", "lovely", "great"], ["bad", "awful", "dull", "poor"]


def reviews(count: int, seed: int) -> list[tuple[str, str]]:
    dice = random.Random(seed)
    rows = []
    for _ in range(count):
        label, words = dice.choice([("pos", POSITIVE), ("neg", NEGATIVE), ("pos", POSITIVE)])
        rows.append((f"a {dice.choice(words)} film with a {dice.choice(words)} end", label))
    return rows


def learned(rows: list[tuple[str, str]]) -> list[Numbered]:
    return [(line, Classification(*row)) for line, row in enumerate(rows, 1)]


def test_majority_and_linear_model_answer_the_same_rows() -> None:
    training, held_out = learned(reviews(120, 1)), reviews(40, 2)
    texts, truth = [text for text, _ in held_out], [label for _, label in held_out]
    asked: list[int] = []
    found = baselines.label_baselines(training, texts, truth, seed=1, wait=lambda: asked.append(1))
    assert list(found) == ["majority", "tfidf_logreg"]
    assert found["majority"].metrics["accuracy"].value == pytest.approx(truth.count("pos") / 40)
    assert found["tfidf_logreg"].metrics["accuracy"].value == 1.0
    assert "'pos'" in found["majority"].note
    assert "120 rows" in found["tfidf_logreg"].note
    assert asked, "a long fit must not go unheard"


def test_the_linear_model_is_the_same_each_time() -> None:
    training, held_out = learned(reviews(30, 3)), reviews(40, 9)
    texts, truth = [text.replace("good", "dull") for text, _ in held_out], [label for _, label in held_out]
    first, second = (
        baselines.label_baselines(training, texts, truth, seed=4, wait=lambda: None)["tfidf_logreg"] for _ in range(2)
    )
    assert 0 < first.metrics["accuracy"].value == second.metrics["accuracy"].value < 1


def test_ties_are_broken_the_same_way_each_time() -> None:
    training = learned([("x", "b"), ("y", "a"), ("z", "b"), ("w", "a")])
    found = baselines.label_baselines(training, ["q"], ["a"], seed=1, wait=lambda: None)
    assert found["majority"].metrics["accuracy"].value == 1.0


def test_no_linear_model_where_there_is_nothing_to_fit() -> None:
    one = learned([("x", "a"), ("y", "a")])
    assert list(baselines.label_baselines(one, ["x"], ["a"], seed=1, wait=lambda: None)) == ["majority"]
    signs = learned([("!!", "a"), ("??", "b")])
    assert list(baselines.label_baselines(signs, ["x"], ["a"], seed=1, wait=lambda: None)) == ["majority"]
    assert baselines.label_baselines([], ["x"], ["a"], seed=1, wait=lambda: None) == {}
    assert baselines.label_baselines([(1, Text("x"))], ["x"], ["a"], seed=1, wait=lambda: None) == {}


def test_a_fit_can_be_cancelled() -> None:
    class Stopped(Exception):
        pass

    def stop() -> None:
        raise Stopped

    with pytest.raises(Stopped):
        baselines.label_baselines(learned(reviews(400, 5)), ["x"], ["pos"], seed=1, wait=stop)


def rendered(tokens: list[int], *, learned_from: int = 1) -> Rendered:
    labels = [IGNORED] * learned_from + tokens[learned_from:]
    return Rendered(1, tokens, labels, [], None, False)


def test_unigram_perplexity_by_hand() -> None:
    found = baselines.unigram([rendered([9, 1, 1, 2])], [rendered([9, 1, 3])], vocabulary=5)
    assert found is not None
    # Three learned tokens and five of add-one: token 1 has (2 + 1) / 8, token 3 has (0 + 1) / 8.
    loss = -(math.log(3 / 8) + math.log(1 / 8)) / 2
    assert found.metrics["loss"].value == pytest.approx(loss)
    assert found.metrics["perplexity"].value == pytest.approx(math.exp(loss))
    assert "3 training tokens" in found.note


def test_unigram_counts_learned_tokens_only_and_needs_some() -> None:
    assert baselines.unigram([], [rendered([1, 2])], vocabulary=4) is None
    whole = baselines.unigram([rendered([9, 1, 2])], [rendered([9, 2])], vocabulary=4)
    part = baselines.unigram([rendered([9, 1, 2], learned_from=2)], [rendered([9, 2])], vocabulary=4)
    assert whole is not None
    assert part is not None
    assert part.metrics["loss"].value < whole.metrics["loss"].value


def test_hidden_words_are_guessed_by_the_whole_texts() -> None:
    hidden = Rendered(1, [101, 7, 5, 102], [IGNORED, 3, IGNORED, IGNORED], [], None, False)  # 3 stands behind 7
    found = baselines.unigram([hidden], [hidden], vocabulary=8, marks=frozenset({101, 102}))
    assert found is not None
    assert "2 training tokens" in found.note
    assert found.metrics["loss"].value == pytest.approx(-math.log(2 / 10))  # the text is 3 5; asked for is the 3


def test_shots_are_the_first_questions_with_answers() -> None:
    talk = Messages((Message("user", "q"), Message("assistant", "a")))
    long = Messages((Message("system", "s"), Message("user", "q"), Message("assistant", "a")))
    rows: list[Numbered] = [
        (1, Text("x")),
        (2, long),
        (3, talk),
        *((n, PromptCompletion(str(n), "c")) for n in range(9)),
    ]
    assert baselines.shots(rows) == [("q", "a"), ("0", "c"), ("1", "c"), ("2", "c")]


def test_few_shot_prompts_are_earlier_turns_of_the_conversation() -> None:
    tokenizer = tiny_tokenizer()
    head, tail = baselines.frame(tokenizer)
    row = Rendered(1, [], [], [*head, *tokenizer("red?", add_special_tokens=False)["input_ids"], *tail], "cat", False)
    found = baselines.few_shot_prompts(tokenizer, [row], [("blue?", "bird")], context=256, answer=8)
    assert found is not None
    turns = [("user", "blue?"), ("assistant", "bird"), ("user", "red?")]
    messages = [{"role": role, "content": content} for role, content in turns]
    wanted = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert tokenizer.decode(found[0]) == wanted
    assert baselines.few_shot_prompts(tokenizer, [row], [("blue?", "bird")], context=40, answer=30) is None
    assert baselines.few_shot_prompts(tokenizer, [row], [], context=256, answer=8) is None
    assert baselines.few_shot_prompts(tiny_tokenizer(chat=False), [row], [("b", "c")], context=256, answer=8) is None
