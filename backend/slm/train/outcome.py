"""What a finished training leaves behind: artifacts anyone may copy away, and the payload of its last event."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from slm import checkpoints
from slm.adapters import count_parameters
from slm.files import file_digest
from slm.spec import TrainSpec
from slm.train.progress import Progress

ARTIFACTS = "artifacts"
WORKING = f"{checkpoints.TEMPORARY}{ARTIFACTS}"
SAMPLES, EVALUATION = "samples.jsonl", "evaluation.json"


def save_model(
    model: Any, tokenizer: Any, spec: TrainSpec, working: Path, *, model_class: str, head: Mapping[str, Any]
) -> dict[str, Any]:
    """Write the learned weights below `working` as `adapter/` or `model/`; the `model` part of the last event.

    `model_class` is the `transformers` class that loads it, `head` what an adapter's base has to be loaded with.

    Nothing in the files names a path of this machine: PEFT writes the base's folder into two of them.
    """
    kind = "adapter" if hasattr(model, "peft_config") else "model"
    folder = working / kind
    if kind == "adapter":
        model.save_pretrained(folder, save_embedding_layers=False)
        config = json.loads((folder / "adapter_config.json").read_bytes())
        config["base_model_name_or_path"] = spec.model.name
        (folder / "adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
        if head:
            (folder / checkpoints.HEAD).write_text(json.dumps(head, indent=2, ensure_ascii=False) + "\n")
    else:
        model.config._name_or_path = spec.model.name
        model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "README.md").write_text(_readme(kind, spec, model_class, with_head=bool(head)))
    (folder / "training_args.bin").unlink(missing_ok=True)
    total, trainable = count_parameters(model)
    weights = sorted(folder.glob("*.safetensors"))
    return {
        "format": kind,
        "parameters_count": total,
        "trainable_parameters": trainable,
        "path": f"{ARTIFACTS}/{kind}",
        "sha256": file_digest(weights[0]) if len(weights) == 1 else _digest_of(weights),
        "size_bytes": sum(path.stat().st_size for path in folder.iterdir()),
        **({"labels": list(head["label2id"])} if "label2id" in head else {}),
        "base_model": {"id": spec.model.model_id, "name": spec.model.name, "adapters": len(spec.model.adapters)},
    }


def list_artifacts(working: Path) -> list[dict[str, Any]]:
    """One entry a file: kind (adapter, model, samples, evaluation), path as it will be, size and SHA-256."""
    kinds = {SAMPLES: "samples", EVALUATION: "evaluation"}
    return [
        {
            "kind": kinds.get(path.name, path.parent.name),
            "path": f"{ARTIFACTS}/{path.relative_to(working).as_posix()}",
            "size_bytes": path.stat().st_size,
            "sha256": file_digest(path),
        }
        for path in sorted(working.rglob("*"))
        if path.is_file()
    ]


def loss_curve(progress: Progress) -> dict[str, list[Any]]:
    """The curve by epochs; `val_loss` holds nulls where no rows were held out."""
    epochs = [int(epoch) if epoch == int(epoch) else epoch for epoch in progress.epochs]
    return {"epochs": epochs, "train_loss": list(progress.train_loss), "val_loss": list(progress.val_loss)}


def training_statistics(progress: Progress, *, total_steps: int, prepared: dict[str, Any]) -> dict[str, Any]:
    """Flat figures of the training; `final_*` are those of the weights that were kept (the best).

    `cpu_seconds` is the processor time of the whole work (data, training, evaluation; without imports), summed over
    attempts; `training_cpu_seconds` the part of it that `training_time_seconds` spans; the peak is that of any attempt.
    """
    kept = len(progress.epochs) - 1
    if progress.best_loss is not None:
        kept = progress.val_loss.index(progress.best_loss)
    return {
        "total_epochs": progress.epochs[-1] if progress.epochs else 0,
        "total_steps": progress.step,
        "planned_steps": total_steps,
        "stopped_early": progress.stopped_early,
        "best_step": progress.best_step,
        "final_train_loss": progress.train_loss[kept] if progress.train_loss else None,
        "final_val_loss": progress.val_loss[kept] if progress.val_loss else None,
        "training_time_seconds": round(progress.seconds, 3),
        "cpu_seconds": round(progress.cpu_seconds, 3),
        "training_cpu_seconds": round(progress.training_cpu_seconds, 3),
        "peak_memory_bytes": progress.peak_memory_bytes,
        "tokens_seen": progress.tokens,
        "tokens_per_second": round(progress.tokens / progress.seconds, 2) if progress.seconds > 0 else None,
        "train_examples": prepared["train_examples"],
        "eval_examples": prepared["eval_examples"],
        "truncated": prepared["truncated"],
        "dropped": prepared["dropped"],
        **{key: progress.machine[key] for key in ("device", "precision", "micro_batch", "threads")},
    }


def _digest_of(weights: list[Path]) -> str:
    """SHA-256 over the files' own digests, for weights in several files."""
    return hashlib.sha256("".join(file_digest(path) for path in weights).encode()).hexdigest()


def _readme(kind: str, spec: TrainSpec, model_class: str, *, with_head: bool) -> str:
    """How to load the result, without a word about this machine."""
    lines = [
        "---",
        "library_name: " + ("peft" if kind == "adapter" else "transformers"),
        "---",
        f"# {spec.model.name}, fine-tuned on {spec.train.name}",
        "",
        f"Method `{spec.config.method.value}`, adapter `{spec.config.adapter.value}`, seed {spec.config.seed}.",
        "",
        "```python",
        f"from transformers import {model_class}, AutoTokenizer",
    ]
    if kind == "adapter":
        given = "BASE, **head" if with_head else "BASE"
        lines += ["from peft import PeftModel", ""]
        if with_head:
            lines += ["import json", "from pathlib import Path"]
            lines += ['head = json.loads(Path("adapter/head.json").read_text())  # its labels']
            lines += ['head["id2label"] = {int(number): label for number, label in head["id2label"].items()}']
        lines += [f"base = {model_class}.from_pretrained({given})  # the folder of the base model"]
        if spec.model.adapters:
            lines.append(f"# merge its {len(spec.model.adapters)} earlier adapter(s) first, in order, the same way")
        lines += [
            'model = PeftModel.from_pretrained(base, "adapter").merge_and_unload()',
            'tokenizer = AutoTokenizer.from_pretrained("adapter")',
        ]
    else:
        lines += [
            "",
            f'model = {model_class}.from_pretrained("model")',
            'tokenizer = AutoTokenizer.from_pretrained("model")',
        ]
    return "\n".join([*lines, "```", ""])
