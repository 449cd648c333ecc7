"""One loaded base and every adapter that is heard through it; called by `slm.serve` from a single thread.

The base is read once. Adapters are loaded when they are first asked for and the longest unused one goes when there are
too many. Base and tuned answer in one batch where both are wanted. Prompts are rendered by the renderer of training, so
that a model is asked exactly as it was taught.
"""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel

from slm import checkpoints
from slm.causal import not_causal
from slm.data.examples import Message, Messages, PromptCompletion
from slm.data.render import Dropped, Renderer
from slm.errors import RunFailure
from slm.generate import Said, Sampling, Say, converse
from slm.serve_client import Wish
from slm.spec import ModelRef

MAX_ADAPTERS = 8
_BASE = "__base__"
"""PEFT's name for a row without any adapter."""
_ENDLESS = 1 << 30


class Refused(Exception):
    """What was asked for cannot be answered, whoever asks; the message is a sentence for a person."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass(frozen=True)
class Prompt:
    """A question as tokens, and how many new ones fit behind it."""

    ids: list[int]
    room: int


class Voice:
    """Raises `RunFailure` where the weights do not load or are not those of a causal language model."""

    def __init__(self, model: ModelRef, *, context: int, max_adapters: int = MAX_ADAPTERS) -> None:
        config = checkpoints.load_config(model)
        if (reason := not_causal(config)) is not None:
            raise RunFailure("model_unsupported", reason)
        self.name = model.name
        self.tokenizer = checkpoints.load_tokenizer(model)
        self._renderer = Renderer(self.tokenizer, max_length=_ENDLESS)
        self._model = checkpoints.load_base(model, Path()).to(_device()).eval()
        own = getattr(config.get_text_config(), "max_position_embeddings", None) or context
        self.context = min(own, context)
        self._adapters: OrderedDict[str, str] = OrderedDict()
        """Folder → PEFT's name, the longest unused first."""
        self._max_adapters = max_adapters
        self._count = 0

    @property
    def adapters(self) -> list[str]:
        """Folders of the adapters that are loaded, the longest unused first."""
        return list(self._adapters)

    def prompt(self, wish: Wish) -> Prompt:
        """Raises `Refused` where the template or the context does not take it."""
        ids = self._render(wish)
        if not ids:
            raise Refused("prompt_empty", "The prompt holds nothing that the model's tokenizer knows.")
        if len(ids) >= self.context:
            raise Refused(
                "context_too_long",
                f"The conversation is {len(ids)} tokens long; '{self.name}' is given at most {self.context} tokens "
                "here, the answer included. Shorten it.",
            )
        return Prompt(ids, self.context - len(ids))

    def _render(self, wish: Wish) -> list[int]:
        goes_on = wish.manner == "text" or (wish.manner == "either" and not self._renderer.has_template)
        if wish.prompt is not None and goes_on:
            ids = list(self.tokenizer(wish.prompt, verbose=False)["input_ids"])
            return ids[:-1] if ids and ids[-1] == self.tokenizer.eos_token_id else ids
        # The answer's own words do not matter: only what stands before them is used.
        example: Messages | PromptCompletion
        if wish.prompt is not None:
            example = PromptCompletion(wish.prompt, "a")
        else:
            turns = [Message(turn["role"], turn["content"]) for turn in wish.messages]
            example = Messages((*turns, Message("assistant", "a")))
        rendered = self._renderer.render(example, 1)
        if isinstance(rendered, Dropped):
            raise Refused("template_refused", rendered.reason)
        return rendered.prompt_ids

    def answer(self, prompt: Prompt, wish: Wish, *, say: Say, check: Callable[[], None]) -> list[Said]:
        """Each side's answer. Raises what `check` raises, `RunFailure` for a bad adapter."""
        names = [_BASE if folder is None else self._adapter(folder) for folder in wish.sides]
        sampling = Sampling(min(wish.max_new_tokens, prompt.room), wish.temperature, wish.top_p, wish.seed)
        return self._converse(prompt.ids, names, sampling, wish.stop, say, check)

    def _converse(
        self,
        ids: list[int],
        names: list[str],
        sampling: Sampling,
        stop: Sequence[str],
        say: Say,
        check: Callable[[], None],
    ) -> list[Said]:
        options: dict[str, Any] = {"sampling": sampling, "stop": stop, "say": say, "check": check}
        if not self._adapters:
            return converse(self._model, self.tokenizer, ids, **options)
        if len(names) > 1:
            return converse(self._model, self.tokenizer, ids, adapters=names, **options)
        if names[0] == _BASE:
            with self._model.disable_adapter():
                return converse(self._model, self.tokenizer, ids, **options)
        self._model.set_adapter(names[0])
        return converse(self._model, self.tokenizer, ids, **options)

    def _adapter(self, folder: str) -> str:
        """PEFT's name of the adapter in a folder, loaded where it is not."""
        if folder in self._adapters:
            self._adapters.move_to_end(folder)
            return self._adapters[folder]
        self._count += 1
        name = f"adapter_{self._count}"
        try:
            with warnings.catch_warnings():
                # PEFT asks the model by a name that transformers is about to retire.
                warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
                if isinstance(self._model, PeftModel):
                    self._model.load_adapter(folder, name)
                else:
                    self._model = PeftModel.from_pretrained(self._model, folder, adapter_name=name)
        except (OSError, ValueError, RuntimeError) as error:
            raise RunFailure(
                "weights_refused", f"The adapter of '{self.name}' does not fit its base: {str(error)[:300]}"
            ) from error
        self._model.eval()
        self._adapters[folder] = name
        if len(self._adapters) > self._max_adapters:
            _, oldest = self._adapters.popitem(last=False)
            self._model.set_adapter(name)
            self._model.delete_adapter(oldest)
        return name


def _device() -> str:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"
