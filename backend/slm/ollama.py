"""An Ollama Modelfile for a GGUF file: what a chat template writes, in the words of Ollama's own templates.

A chat template is a program; Ollama has another language. What most of them do is put fixed words before and after
each turn. Those are found by asking the template, and the result is only used where it writes exactly the same text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import TemplateError

_ROLES = ("system", "user", "assistant")
_MARK = "\u241f"
"""A character that no template writes by itself."""
Turn = dict[str, str]


@dataclass(frozen=True)
class Turns:
    """What stands before and after each role's text, before everything, and before the answer to come."""

    start: str
    around: dict[str, tuple[str, str]]
    asking: str
    default_system: str | None

    def write(self, turns: Sequence[Turn], *, generation: bool) -> str:
        """The conversation as the chat template would write it."""
        given = list(turns)
        if self.default_system is not None and given[0]["role"] != "system":
            given.insert(0, {"role": "system", "content": self.default_system})
        text = "".join(self.around[turn["role"]][0] + turn["content"] + self.around[turn["role"]][1] for turn in given)
        return self.start + text + (self.asking if generation else "")


def turns_of(tokenizer: Any) -> Turns | None:
    """The fixed words of the tokenizer's chat template, or None where it does more than put them around turns."""
    if not tokenizer.chat_template:
        return None
    for start in ("", tokenizer.bos_token or ""):
        try:
            found = _ask(tokenizer, start)
            if found is not None and _agrees(found, tokenizer):
                return found
        except (TemplateError, IndexError, KeyError, TypeError):
            return None
    return None


def modelfile(file_name: str, tokenizer: Any, *, stops: Sequence[str], adds_start: bool) -> str:
    """The Modelfile beside `file_name`. `stops` are the texts at which an answer ends; `adds_start` says that the
    begin-of-text token is put before every text anyway."""
    lines = [f"FROM ./{file_name}"]
    turns = turns_of(tokenizer)
    if turns is not None:
        lines.append(f'TEMPLATE """{_go_template(turns, adds_start=adds_start)}"""')
        if turns.default_system:
            lines.append(f'SYSTEM """{turns.default_system}"""')
    elif tokenizer.chat_template:
        lines.append("# The chat template does more than Ollama's language says; Ollama reads it from the GGUF file.")
    else:
        lines += ["# No chat template: the model continues the text it is given.", 'TEMPLATE """{{ .Prompt }}"""']
    lines += [f'PARAMETER stop "{_quoted(stop)}"' for stop in stops if stop]
    return "\n".join(lines) + "\n"


def _write(tokenizer: Any, turns: Sequence[Turn], *, generation: bool = False) -> str:
    return str(tokenizer.apply_chat_template(list(turns), tokenize=False, add_generation_prompt=generation))


def _ask(tokenizer: Any, start: str) -> Turns | None:
    turns = [{"role": role, "content": f"{_MARK}{role}{_MARK}"} for role in _ROLES]
    whole = _write(tokenizer, turns)
    if not whole.startswith(start) or "{{" in whole or '"""' in whole:
        return None
    parts = whole.removeprefix(start).split(_MARK)
    if parts[1::2] != list(_ROLES):
        return None
    # Where one turn ends and the next begins is seen by leaving the next one out.
    ends = [_write(tokenizer, turns[: count + 1]).rpartition(_MARK)[2] for count in range(len(turns))]
    around = {}
    for role, before, end, previous in zip(_ROLES, parts[0::2], ends, ["", *ends], strict=False):
        if not before.startswith(previous):
            return None
        around[role] = (before[len(previous) :], end)
    asked = _write(tokenizer, turns[:2], generation=True)
    asking = asked.rpartition(_MARK)[2].removeprefix(ends[1])
    alone = _write(tokenizer, turns[1:2]).removeprefix(start)
    before, mark, _ = alone.partition(f"{_MARK}user{_MARK}")
    system, user = around["system"], around["user"]
    default = None
    if mark and before != user[0]:
        inner = before.removesuffix(user[0])
        if not (inner.startswith(system[0]) and inner.endswith(system[1])):
            return None
        default = inner[len(system[0]) : len(inner) - len(system[1])]
    return Turns(start, around, asking, default)


def _agrees(turns: Turns, tokenizer: Any) -> bool:
    """Whether it writes the very text of the chat template, in conversations of several shapes."""
    said = [{"role": "user", "content": "a b"}, {"role": "assistant", "content": "c\nd"}]
    shapes = (said[:1], said, [*said, *said], [{"role": "system", "content": "s"}, *said, *said[:1]])
    return all(
        turns.write(shape, generation=generation) == _write(tokenizer, shape, generation=generation)
        for shape in shapes
        for generation in (False, True)
    )


def _go_template(turns: Turns, *, adds_start: bool) -> str:
    """In Go's template language, without the dashes that would eat the newlines between turns."""
    chosen = []
    for number, role in enumerate(_ROLES):
        before, after = turns.around[role]
        word = "if" if number == 0 else "else if"
        chosen.append(f'{{{{ {word} eq .Role "{role}" }}}}{before}{{{{ .Content }}}}{after}')
    start = "" if adds_start else turns.start
    return f"{start}{{{{ range .Messages }}}}{''.join(chosen)}{{{{ end }}}}{{{{ end }}}}{turns.asking}"


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
