"""What a whole fine-tuning costs, against what a user would write instead with the same libraries.

    python bench/training.py [--rows 64] [--held-out 16] [--rounds 1] [--peers padded,dynamic,trl]

The same job for everyone: SmolLM2-135M-Instruct, LoRA r 16 on all linear layers, one epoch over the same rows of
`examples/tickets-train.csv`, effective batch 8, learning rate 1e-3, 32-bit floats, one thread; then the loss on the
same held-out rows. Peers: `transformers.Trainer` padded to 256 tokens, the same padded to the longest row of each
batch, TRL's `SFTTrainer` at its own defaults (but bf16 off, which processors without it cannot afford).

Each job is a process of its own, in turn, and its CPU seconds and peak memory are those of the whole process, from
`import` to the end. Ours includes what only it does: digests, events, checkpoints, and scoring the base model too.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import math
import sys
import tempfile
from pathlib import Path
from typing import Any

from measure import BACKEND, Cost, median, run, show, verdict

EXAMPLES = BACKEND.parent / "examples"
PADDED = 256
LEARNING_RATE = 1e-3
BATCH = 8


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--held-out", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--peers", default="padded,dynamic,trl")
    parser.add_argument("--child", nargs=2, metavar=("KIND", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        peer(arguments.child[0], Path(arguments.child[1]))
        return 0
    with tempfile.TemporaryDirectory(prefix="bench-training-") as folder:
        return compare(Path(folder), arguments.rows, arguments.held_out, arguments.rounds, arguments.peers.split(","))


def weights() -> Path:
    from app.config import Settings
    from slm.bundled import SMOLLM2

    folder = Settings().models_dir / SMOLLM2
    if not folder.is_dir():
        raise SystemExit("The bundled weights are not here; `slm pull smollm2` fetches them.")
    return folder


def compare(folder: Path, rows: int, held_out: int, rounds: int, peers: list[str]) -> int:
    costs: dict[str, list[Cost]] = {}
    losses: dict[str, float] = {}
    write_rows(folder / "train.jsonl", EXAMPLES / "tickets-train.csv", rows)
    write_rows(folder / "held-out.jsonl", EXAMPLES / "tickets-eval.csv", held_out)
    learned = 0.0
    for turn in range(rounds):
        directory = folder / f"ours-{turn}"
        write_run(directory, folder, rows, held_out)
        environment = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        cost = run([sys.executable, "-m", "slm.run", str(directory)], log=folder / "ours.log", **environment)
        costs.setdefault("ours", []).append(cost)
        events = [json.loads(line) for line in (directory / "events.jsonl").read_text().splitlines()]
        losses["ours"] = next(event for event in events if event["type"] == "finished")["evaluation"]["metrics"]["loss"]
        learned = next(event for event in events if event["type"] == "prepared")["learned_tokens"]
        for name in peers:
            command = [sys.executable, str(Path(__file__)), "--child", name, str(folder)]
            costs.setdefault(name, []).append(run(command, log=folder / f"{name}.log", **environment))
            losses[name] = json.loads((folder / f"{name}.json").read_text())["loss"]
    print(f"{rows} rows, {learned:.0f} learned tokens, {rounds} round(s); held-out loss: ", end="")
    print(", ".join(f"{name} {loss:.4f}" for name, loss in losses.items()))
    return report({name: [_thousand(cost, learned) for cost in found] for name, found in costs.items()})


def _thousand(cost: Cost, learned: float) -> Cost:
    return Cost(1000 * cost.cpu / learned, cost.peak_memory)


def report(costs: dict[str, list[Cost]]) -> int:
    wanted = {"padded": 2.0, "dynamic": 1.2, "trl": 2.0}
    ours = median([cost.cpu for cost in costs["ours"]])
    memory = median([cost.peak_memory for cost in costs["ours"]]) / 1e9
    results = []
    for name in costs.keys() - {"ours"}:
        theirs = median([cost.cpu for cost in costs[name]])
        unit = "CPU-s per 1,000 learned tokens"
        results.append(show(f"whole job against {name}", ours=ours, peer=theirs, unit=unit, at_least=wanted[name]))
    if "padded" in costs:
        theirs = median([cost.peak_memory for cost in costs["padded"]]) / 1e9
        results.append(show("peak memory against padded", ours=memory, peer=theirs, unit="GB", at_most=0.6))
    return verdict(results)


def write_rows(path: Path, source: Path, count: int) -> None:
    with source.open(newline="", encoding="utf-8") as file:
        rows = [row for _, row in zip(range(count), csv.DictReader(file), strict=False)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_run(directory: Path, folder: Path, rows: int, held_out: int) -> None:
    from slm.spec import DatasetKind, DatasetRef, FileFormat, ModelRef, TrainSpec, resolve

    def reference(name: str, count: int) -> DatasetRef:
        path = folder / f"{name}.jsonl"
        return DatasetRef(
            dataset_id=name, name=name, path=str(path), file_format=FileFormat.JSONL, row_count=count,
            sha256=hashlib.sha256(path.read_bytes()).hexdigest(), kind=DatasetKind.PROMPT_COMPLETION,
        )  # fmt: skip

    config, _ = resolve({
        "epochs": 1, "batch_size": BATCH, "learning_rate": LEARNING_RATE, "max_length": PADDED, "generate_max_rows": 0,
        "lr_scheduler_type": "constant", "warmup_ratio": 0, "early_stopping_patience": None,
    })  # fmt: skip
    spec = TrainSpec(
        run_id="bench", experiment_id="bench", attempt=1, config=config, threads=1,
        model=ModelRef(model_id="base", name="SmolLM2", path=str(weights())),
        train=reference("train", rows), eval=reference("held-out", held_out),
    )  # fmt: skip
    directory.mkdir()
    (directory / "run.json").write_text(spec.model_dump_json())


def peer(kind: str, folder: Path) -> None:
    """One peer's whole job, in this process."""
    import torch
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(1)
    torch.manual_seed(42)
    tokenizer = AutoTokenizer.from_pretrained(weights())
    model = AutoModelForCausalLM.from_pretrained(weights(), dtype=torch.float32)
    lora = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    train = train_trl if kind == "trl" else train_plainly
    trained = train(model, tokenizer, lora, folder, kind)
    loss = held_out_loss(trained, tokenizer, folder)
    (folder / f"{kind}.json").write_text(json.dumps({"loss": loss}))


def rendered(tokenizer: Any, path: Path) -> list[Any]:
    """The very tokens and labels that ours learns."""
    from slm.data.examples import PromptCompletion
    from slm.data.render import Dropped, Renderer

    renderer = Renderer(tokenizer, max_length=PADDED)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    found = [renderer.render(PromptCompletion(row["prompt"], row["completion"]), 1) for row in rows]
    return [row for row in found if not isinstance(row, Dropped)]


def train_plainly(model: Any, tokenizer: Any, lora: Any, folder: Path, kind: str) -> Any:
    """`transformers.Trainer`, as its documentation shows it."""
    from peft import get_peft_model
    from transformers import DataCollatorForSeq2Seq, Trainer, TrainingArguments

    rows = [
        {"input_ids": row.input_ids, "labels": row.labels, "attention_mask": [1] * len(row.input_ids)}
        for row in rendered(tokenizer, folder / "train.jsonl")
    ]
    padding = {"padding": "max_length", "max_length": PADDED} if kind == "padded" else {"padding": True}
    arguments = TrainingArguments(
        output_dir=str(folder / kind), num_train_epochs=1, per_device_train_batch_size=BATCH, report_to="none",
        learning_rate=LEARNING_RATE, lr_scheduler_type="constant", use_cpu=True, disable_tqdm=True, seed=42,
    )  # fmt: skip
    collator = DataCollatorForSeq2Seq(tokenizer, **padding)
    trainer = Trainer(get_peft_model(model, lora), arguments, data_collator=collator, train_dataset=rows)
    trainer.train()
    return trainer.model


def train_trl(model: Any, _tokenizer: Any, lora: Any, folder: Path, kind: str) -> Any:
    """`trl.SFTTrainer` at its own defaults but for what makes it the same job."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    rows = [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]
    messages = [
        {
            "prompt": [{"role": "user", "content": row["prompt"]}],
            "completion": [{"role": "assistant", "content": row["completion"]}],
        }
        for row in rows
    ]
    arguments = SFTConfig(
        output_dir=str(folder / kind), num_train_epochs=1, per_device_train_batch_size=BATCH, report_to="none",
        learning_rate=LEARNING_RATE, lr_scheduler_type="constant", bf16=False, use_cpu=True, disable_tqdm=True, seed=42,
    )  # fmt: skip
    trainer = SFTTrainer(model, args=arguments, train_dataset=Dataset.from_list(messages), peft_config=lora)
    trainer.train()
    return trainer.model


def held_out_loss(model: Any, tokenizer: Any, folder: Path) -> float:
    """Mean over learned tokens, one row at a time."""
    import torch

    model.eval()
    total, count = 0.0, 0
    with torch.no_grad():
        for row in rendered(tokenizer, folder / "held-out.jsonl"):
            ids, labels = torch.tensor([row.input_ids]), torch.tensor([row.labels])
            total += float(model(input_ids=ids, labels=labels).loss) * row.learned
            count += row.learned
    return total / count if count else math.nan


if __name__ == "__main__":
    sys.exit(main())
