"""A Modelfile writes the very text of the chat template, or says that it does not try."""

from __future__ import annotations

import re
from typing import Any

import pytest
from tiny_models import tiny_tokenizer

from slm import ollama

SMOLLM = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\n"
    "You are helpful<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + "
    "'<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA3 = (
    "{{ bos_token }}{% for message in messages %}{{ '<|start|>' + message['role'] + '<|end|>\n\n' + "
    "message['content'] | trim + '<|eot|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start|>assistant<|end|>\n\n' }}{% endif %}"
)
ZEPHYR = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>\n' + message['content'] + eos_token + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
CLEVER = "{% for message in messages %}{{ loop.index ~ message['role'] ~ message['content'] }}{% endfor %}"
TALK = [
    {"role": "user", "content": "Who?"},
    {"role": "assistant", "content": "Ada\nLovelace."},
    {"role": "user", "content": "When? "},
]


def with_template(template: str | None, bos: str = "<|endoftext|>") -> Any:
    tokenizer = tiny_tokenizer()
    tokenizer.bos_token = bos
    tokenizer.chat_template = template
    return tokenizer


def go(modelfile: str, turns: list[dict[str, str]]) -> str:
    """What Ollama makes of TEMPLATE and SYSTEM: the part of Go's template language that a Modelfile here uses."""
    template = re.search(r'TEMPLATE """(.*?)"""', modelfile, re.DOTALL)
    system = re.search(r'SYSTEM """(.*?)"""', modelfile, re.DOTALL)
    assert template
    assert "{{-" not in template.group(1)
    start, body, asking = re.split(r"\{\{ range \.Messages \}\}|\{\{ end \}\}\{\{ end \}\}", template.group(1))
    roles = dict(re.findall(r'\{\{ (?:else )?if eq \.Role "(\w+)" \}\}(.*?)(?=\{\{ else|\Z)', body, re.DOTALL))
    given = [{"role": "system", "content": system.group(1)}, *turns] if system else turns
    said = "".join(roles[turn["role"]].replace("{{ .Content }}", turn["content"]) for turn in given)
    return start + said + asking


@pytest.mark.parametrize("template", [SMOLLM, LLAMA3, ZEPHYR], ids=["smollm", "llama3", "zephyr"])
def test_the_same_text_as_the_chat_template(template: str) -> None:
    tokenizer = with_template(template)
    found = ollama.modelfile("m.gguf", tokenizer, stops=["<|im_end|>"], adds_start=False)
    assert found.startswith("FROM ./m.gguf\n")
    turns = [{**turn, "content": turn["content"].strip()} for turn in TALK] if template is LLAMA3 else TALK
    wanted = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    assert go(found, turns) == wanted
    assert found.endswith('PARAMETER stop "<|im_end|>"\n')


def test_a_default_system_prompt_becomes_SYSTEM() -> None:  # noqa: N802 - Ollama's word
    assert 'SYSTEM """You are helpful"""' in ollama.modelfile("m", with_template(SMOLLM), stops=[], adds_start=False)
    assert "SYSTEM" not in ollama.modelfile("m", with_template(ZEPHYR), stops=[], adds_start=False)


def test_a_begin_that_is_put_there_anyway_is_not_written_twice() -> None:
    tokenizer = with_template(LLAMA3)
    assert "<|endoftext|>" in ollama.modelfile("m", tokenizer, stops=[], adds_start=False)
    assert "<|endoftext|>" not in ollama.modelfile("m", tokenizer, stops=[], adds_start=True)


def test_a_begin_token_that_is_also_the_turns_own_is_no_begin() -> None:
    """SmolLM2's begin-of-text token is the one that opens every turn."""
    turns = ollama.turns_of(with_template(SMOLLM, bos="<|im_start|>"))
    assert turns is not None
    assert (turns.start, turns.around["user"]) == ("", ("<|im_start|>user\n", "<|im_end|>\n"))


def test_a_template_that_does_more_is_left_to_the_file() -> None:
    found = ollama.modelfile("m", with_template(CLEVER), stops=[], adds_start=False)
    assert "TEMPLATE" not in found
    assert "Ollama reads it from the GGUF file" in found


def test_without_a_template_text_is_continued() -> None:
    found = ollama.modelfile("m", with_template(None), stops=['say "end"'], adds_start=False)
    assert 'TEMPLATE """{{ .Prompt }}"""' in found
    assert found.endswith('PARAMETER stop "say \\"end\\""\n')
