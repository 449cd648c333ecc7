"""`client.models` and `client.runs`: the registry, the fetching of weights, any long work."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Unpack

from slm_client.answers import Model, ModelDetail, Run
from slm_client.chat import ChatAnswer, ChatEvent, Sampling, chat, chat_stream, question
from slm_client.exports import Export, Lineage
from slm_client.polling import until_ended
from slm_client.transport import Transport, segment


class Models:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(self, *, model_type: str | None = None, limit: int | None = None) -> Sequence[Model]:
        """The seeded bases first, the rest newest first; with `limit` the newest of all. `base` or `fine_tuned`."""
        params = {"model_type": model_type, "limit": limit}
        return [Model.read(row) for row in self._transport.json("GET", "/models", params=params)]

    def iterate(self, *, model_type: str | None = None, page_size: int = 200) -> Iterator[Model]:
        """Newest first, page by page."""
        rows = self._transport.pages("/models", {"model_type": model_type}, page_size=page_size)
        return (Model.read(row) for row in rows)

    def get(self, model_id: str) -> ModelDetail:
        return ModelDetail.read(self._transport.json("GET", f"/models/{segment(model_id)}"))

    def register(
        self,
        name: str,
        *,
        hub: str | None = None,
        revision: str | None = None,
        folder: str | None = None,
        description: str | None = None,
        tags: Sequence[str] = (),
    ) -> ModelDetail:
        """Add a base model from a hub (`org/name`) or from a folder below the service's `models_dir`."""
        source = {key: value for key, value in (("hub", hub), ("revision", revision), ("folder", folder)) if value}
        body = {"name": name, "source": source, "description": description, "tags": [*tags]}
        return ModelDetail.read(self._transport.json("POST", "/models", json=body))

    def pull(self, model_id: str) -> Run:
        """Start fetching its weights; watch the run with `client.runs.wait`."""
        return Run.read(self._transport.json("POST", f"/models/{segment(model_id)}/pull"))

    def export(self, model_id: str, format: str) -> Run:  # noqa: A002 - the wire's word
        """Start an export as `adapter`, `safetensors`, `gguf-f16` or `gguf-q8_0`; its files are listed by `exports`."""
        return Run.read(self._transport.json("POST", f"/models/{segment(model_id)}/exports", json={"format": format}))

    def exports(self, model_id: str) -> Sequence[Export]:
        """Newest first, with the figures of their self-tests."""
        return [Export.read(row) for row in self._transport.json("GET", f"/models/{segment(model_id)}/exports")]

    def delete_export(self, export_id: str) -> None:
        """With its files. Raises `Conflict` while it is being made."""
        self._transport.json("DELETE", f"/exports/{segment(export_id)}")

    def card(self, model_id: str) -> str:
        """The model's card, Markdown."""
        return self._transport.send("GET", f"/models/{segment(model_id)}/card").text

    def lineage(self, model_id: str) -> Lineage:
        return Lineage.read(self._transport.json("GET", f"/models/{segment(model_id)}/lineage"))

    def change(self, model_id: str, **changes: object) -> ModelDetail:
        """Change `name`, `description` or `tags`; what is not given stays."""
        return ModelDetail.read(self._transport.json("PATCH", f"/models/{segment(model_id)}", json=changes))

    def delete(self, model_id: str) -> None:
        """A fine-tuned model goes with its files. Raises `Conflict` while something refers to it."""
        self._transport.json("DELETE", f"/models/{segment(model_id)}")

    def chat(
        self,
        model_id: str,
        prompt: str | None = None,
        *,
        messages: Sequence[Mapping[str, str]] | None = None,
        compare: bool = False,
        **sampling: Unpack[Sampling],
    ) -> ChatAnswer:
        """The model's answer to a prompt, or to messages (`{"role", "content"}`) that end with the user's.

        With `compare` its base answers too. What is left out is the service's default. Raises `Unavailable` where too
        many wait, `Conflict` where the model cannot answer.
        """
        return chat(self._transport, model_id, question(prompt, messages, compare, sampling))

    def chat_stream(
        self,
        model_id: str,
        prompt: str | None = None,
        *,
        messages: Sequence[Mapping[str, str]] | None = None,
        compare: bool = False,
        **sampling: Unpack[Sampling],
    ) -> Iterator[ChatEvent]:
        """Like `chat`, word for word: `token` events, then one `done` with the whole answer. Refused when the first
        event is asked for. Closing the iterator stops the answer."""
        return chat_stream(self._transport, model_id, question(prompt, messages, compare, sampling))

    def predict(
        self,
        model_id: str,
        dataset_id: str,
        *,
        mapping: Mapping[str, str] | None = None,
        max_new_tokens: int | None = None,
    ) -> Run:
        """Start running the model over a whole dataset; watch the run with `client.runs.wait`.

        Its `result` then names the `artifact_id` of a file of JSON lines. `mapping` says which column is asked where
        the dataset does not: `{"prompt": "question"}` or `{"text": "review"}`.
        """
        asked = {"dataset_id": dataset_id, "mapping": mapping, "max_new_tokens": max_new_tokens}
        body = {key: value for key, value in asked.items() if value is not None}
        return Run.read(self._transport.json("POST", f"/models/{segment(model_id)}/predictions", json=body))


class Runs:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def get(self, run_id: str) -> Run:
        return Run.read(self._transport.json("GET", f"/runs/{segment(run_id)}"))

    def cancel(self, run_id: str, *, save: bool = True) -> Run:
        return Run.read(self._transport.json("POST", f"/runs/{segment(run_id)}/cancel", json={"save": save}))

    def watch(self, run_id: str, *, interval: float = 1.0, patience: float = 60.0) -> Iterator[Run]:
        """The run again and again until it has ended, whose last look is the last item.

        A service that is away (a restart) is waited for up to `patience` seconds, then `ServiceUnreachable`.
        """
        return until_ended(lambda: self.get(run_id), interval=interval, patience=patience)

    def wait(self, run_id: str, *, interval: float = 1.0, patience: float = 60.0) -> Run:
        """Wait until the run has ended."""
        return [*self.watch(run_id, interval=interval, patience=patience)][-1]
