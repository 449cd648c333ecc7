"""How near a measured plan comes to what the training then takes: processor time and peak memory, over the examples.

    python bench/plan.py [--examples tickets,topics,library,replies] [--rows 64] [--held-out 16] [--epochs 1]

For each example a trial of its training (`slm.trial`, what `slm plan --measure` runs), then the training itself, each a
process of its own on one thread. Wanted: processor seconds within 1.5 times, peak memory within 1.3 times, whichever
way. Rows are the first of the example's files; 0 takes all. SmolLM2 learns all of them but the topics, which a small
encoder classifies where its weights are here.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from measure import BACKEND, run, verdict

EXAMPLES = BACKEND.parent / "examples"
FILES = {"tickets": ".csv", "topics": ".csv", "library": ".jsonl", "replies": ".jsonl"}
CPU, MEMORY = 1.5, 1.3


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", default=",".join(FILES))
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--held-out", type=int, default=16)
    parser.add_argument("--epochs", type=float, default=1)
    parser.add_argument("--set", action="append", default=[], help="a further hyperparameter, as name=value")
    arguments = parser.parse_args()
    config = {"epochs": arguments.epochs, "early_stopping_patience": None}
    config |= {name: json.loads(value) for name, _, value in (item.partition("=") for item in arguments.set)}
    results: list[bool] = []
    with tempfile.TemporaryDirectory(prefix="bench-plan-") as folder:
        for name in arguments.examples.split(","):
            results += compare(Path(folder) / name, name, arguments.rows, arguments.held_out, config)
    return verdict(results)


def compare(folder: Path, name: str, rows: int, held_out: int, config: dict[str, Any]) -> list[bool]:
    folder.mkdir()
    spec = write_spec(folder, name, rows, held_out, config)
    trial = {"task": "trial", "run_id": "trial", "train": spec, "seconds": 60}
    planned = json.loads(carry_out(folder / "trial", trial).joinpath("result.json").read_bytes())
    done = carry_out(folder / "training", spec)
    events = [json.loads(line) for line in (done / "events.jsonl").read_text().splitlines()]
    ending = next(event for event in events if event["type"] == "finished")
    actual = ending["evaluation"]["training_statistics"]
    exact = (planned["steps"], planned["tokens"]) == (actual["total_steps"], actual["tokens_seen"])
    print(f"{name}: {actual['total_steps']} steps, {actual['tokens_seen']} tokens, foretold {_word(exact)}")
    return [
        exact,
        _near(f"{name}, CPU", planned["cpu_seconds"], actual["cpu_seconds"], CPU, "s", 1),
        _near(f"{name}, peak memory", planned["memory_bytes"], actual["peak_memory_bytes"], MEMORY, "GB", 1e9),
    ]


def _near(name: str, planned: float, actual: float, most: float, unit: str, scale: float) -> bool:
    ratio = actual / planned
    held = 1 / most <= ratio <= most
    print(
        f"{name}: planned {planned / scale:.3g} {unit}, actual {actual / scale:.3g} {unit}, "
        f"ratio {ratio:.2f} (wanted within {most}) {_word(held)}"
    )
    return held


def _word(held: bool) -> str:
    return "holds" if held else "MISSED"


def carry_out(directory: Path, spec: dict[str, Any]) -> Path:
    directory.mkdir()
    (directory / "run.json").write_text(json.dumps(spec))
    command = [sys.executable, "-m", "slm.run", str(directory)]
    run(command, log=directory / "log", OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1")
    return directory


def write_spec(folder: Path, name: str, rows: int, held_out: int, config: dict[str, Any]) -> dict[str, Any]:
    from slm.spec import DatasetKind, ModelRef, TrainSpec, resolve

    train = reference(folder, f"{name}-train", FILES[name], rows)
    evaluate = reference(folder, f"{name}-eval", FILES[name], held_out)
    base, weights = base_for(train["kind"])
    resolved, _ = resolve(config, kind=DatasetKind(train["kind"]), base=base)
    spec = TrainSpec.model_validate(
        {"run_id": "bench", "experiment_id": "bench", "attempt": 1, "config": resolved, "threads": 1,
         "model": ModelRef(model_id="base", name=weights.name, path=str(weights)), "train": train, "eval": evaluate}
    )  # fmt: skip
    document: dict[str, Any] = json.loads(spec.model_dump_json())
    return document


def base_for(kind: str) -> tuple[str, Path]:
    from app.config import Settings
    from slm.bundled import BUNDLED, SMOLLM2

    folder = Settings().models_dir
    encoders = [folder / key for key in BUNDLED if key != SMOLLM2 and (folder / key).is_dir()]
    if kind == "classification" and encoders:
        return "encoder", encoders[0]
    if not (folder / SMOLLM2).is_dir():
        raise SystemExit("The bundled weights are not here; `slm pull smollm2` fetches them.")
    return "causal", folder / SMOLLM2


def reference(folder: Path, name: str, ending: str, count: int) -> dict[str, Any]:
    """The first rows of an example's file, as a run reads them."""
    from slm.data.inspection import inspect_file
    from slm.spec import FileFormat

    source, path = EXAMPLES / f"{name}{ending}", folder / f"{name}.jsonl"
    with source.open(newline="", encoding="utf-8") as file:
        found = list(csv.DictReader(file)) if ending == ".csv" else [json.loads(line) for line in file]
    path.write_text("".join(json.dumps(row) + "\n" for row in (found[:count] if count else found)))
    seen = inspect_file(path, file_format=FileFormat.JSONL)
    return {
        "dataset_id": name, "name": name, "path": str(path), "file_format": "jsonl", "row_count": seen.row_count,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "kind": seen.kind, "mapping": seen.mapping,
    }  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
