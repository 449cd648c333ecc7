"""Words as they come: joined they are the answer, whatever the tokens' borders, the stop texts and the blanks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import tiny_tokenizer

from slm.wording import Wording


def letters(ids: list[int]) -> str:
    return "".join(map(chr, ids))


def pieces(text: str, stop: list[str]) -> tuple[Wording, list[str]]:
    """What is said after each character, and at the end."""
    wording = Wording(letters, stop)
    said = [wording.add(ord(letter)) for letter in text]
    return wording, [*said, wording.close()]


def test_text_that_may_begin_a_stop_text_waits_and_is_said_when_it_does_not() -> None:
    wording, said = pieces("one EN two END three", ["END"])
    assert wording.text == "one EN two"
    assert wording.stopped
    assert said[4] == "" == said[5], "E and N might be the beginning of END"
    assert "".join(said[:7]) == "one EN"


def test_a_stop_text_over_several_tokens_is_cut_off() -> None:
    tokenizer = tiny_tokenizer()

    def decode(ids: list[int]) -> str:
        return str(tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))

    ids = tokenizer("The answer is red. The animal is cat.", add_special_tokens=False)["input_ids"]
    stop = ". The animal"
    assert len(tokenizer(stop, add_special_tokens=False)["input_ids"]) > 2
    wording = Wording(decode, [stop])
    said = "".join(wording.add(token) for token in ids) + wording.close()
    assert said == wording.text == "The answer is red"
    assert wording.stopped


def test_what_looked_like_a_stop_text_to_the_end_is_said_at_the_end() -> None:
    wording, said = pieces("an answer ST", ["STOP"])
    assert said[-1] == " ST"
    assert wording.text == "an answer ST"
    assert not wording.stopped


def test_the_earliest_of_several_stop_texts_counts_and_nothing_follows() -> None:
    wording, said = pieces("a b c d", ["d", "b"])
    assert wording.text == "a"
    assert said[3:] == ["", "", "", "", ""]


def test_blanks_around_the_answer_are_not_said() -> None:
    wording, said = pieces(" \n a  b \n", [])
    assert wording.text == "a  b"
    assert said[:3] == ["", "", ""]
    assert said[-2:] == ["", ""]


def test_a_character_split_over_tokens_is_said_whole() -> None:
    tokenizer = tiny_tokenizer()
    ids = tokenizer("red 🐦 ü", add_special_tokens=False)["input_ids"]
    wording = Wording(lambda ids: str(tokenizer.decode(ids, clean_up_tokenization_spaces=False)))
    said = [wording.add(token) for token in ids]
    assert "".join(said) + wording.close() == "red 🐦 ü"
    assert not any("\ufffd" in words for words in said)


def test_bytes_that_are_no_character_do_not_hold_the_answer_up() -> None:
    wording = Wording(lambda ids: "".join("\ufffd" if token == 0 else chr(token) for token in ids))
    said = [wording.add(token) for token in [0] * 9 + [97]]
    assert any(said)
    assert "".join(said) + wording.close() == wording.text == "\ufffd" * 9 + "a"


@pytest.mark.filterwarnings("error")
@given(text=st.text("ab \n", max_size=40), stop=st.lists(st.text("ab \n", min_size=1, max_size=4), max_size=3))
def test_the_pieces_joined_are_the_answer(text: str, stop: list[str]) -> None:
    """Of several stop texts that counts which is complete first: nothing is generated beyond it."""
    ends = (end for end in range(len(text) + 1) if any(text[:end].endswith(one) for one in stop))
    end = next(ends, None)
    cut = len(text) if end is None else end - max(len(one) for one in stop if text[:end].endswith(one))
    wording, said = pieces(text, stop)
    assert "".join(said) == wording.text == text[:cut].strip()
    assert wording.stopped == (end is not None)
