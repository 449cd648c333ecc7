"""Tasks of EleutherAI's lm-evaluation-harness on a model of ours, offline: `python -m slm.harness MODEL --tasks FILE`.

An extra (`pip install 'slm-platform[eval]'`). A task is a YAML file of the harness beside its data, so that nothing is
fetched: paths of data files are relative to the task file. A name instead of a file is one of the harness's own tasks,
whose data come from a hub; that needs `--online`. Adapters are merged into the model first, in the order given.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from slm.errors import RunFailure
from slm.spec import ModelRef

EXTRA = "slm-platform[eval]"
Results = dict[str, dict[str, Any]]
"""Task → metric → `value`, `stderr`; beside them `rows` and `shots`."""


class Refused(Exception):
    """What was asked for cannot be done; the message says why and what to do."""


def evaluate(
    model: ModelRef, tasks: Sequence[str], *, limit: int | None = None, batch_size: int = 8, seed: int = 42,
    online: bool = False,
) -> Results:  # fmt: skip
    """The results of each task, as plain numbers. Raises `Refused`, or `RunFailure` where the model does not load."""
    if find_spec("lm_eval") is None:
        raise Refused(f"The lm-evaluation-harness is not installed; pip install '{EXTRA}' brings it.")
    groups = _by_folder(tasks, online=online)
    with _environment(online=online), contextlib.redirect_stdout(sys.stderr):
        from slm import checkpoints

        loaded = checkpoints.load_base(model, Path())
        answering = _answering(loaded.eval(), checkpoints.load_tokenizer(model), batch_size)
        found: Results = {}
        for folder, names in groups.items():
            found |= _run(answering, folder, names, limit=limit, seed=seed)
    return found


def _by_folder(tasks: Sequence[str], *, online: bool) -> dict[Path | None, list[str]]:
    """Task files by the folder they lie in; names of the harness's own tasks under None."""
    groups: dict[Path | None, list[str]] = {}
    for task in tasks:
        path = Path(task)
        if path.suffix in {".yaml", ".yml"}:
            if not path.is_file():
                raise Refused(f"There is no task file {path}.")
            groups.setdefault(path.resolve().parent, []).append(_name(path))
        elif online:
            groups.setdefault(None, []).append(task)
        else:
            raise Refused(
                f"'{task}' is not a YAML file; a task of the harness's own needs its data from a hub: --online."
            )
    return groups


def _name(path: Path) -> str:
    """What a task file calls its task or group."""
    for line in path.read_text(encoding="utf-8").splitlines():
        key, _, value = line.partition(":")
        if key in {"task", "group"} and value.strip():
            return value.split("#")[0].strip().strip("\"'")
    raise Refused(f"{path.name} names no task: it needs a line like 'task: my_task'.")


@contextlib.contextmanager
def _environment(*, online: bool) -> Iterator[None]:
    """Offline unless asked, no telemetry, and no cache that outlives the evaluation."""
    settings = {"HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1", "TOKENIZERS_PARALLELISM": "false"}
    if not online:
        settings |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    before = {name: os.environ.get(name) for name in (*settings, "HF_DATASETS_CACHE")}
    with tempfile.TemporaryDirectory(prefix="slm-harness-") as cache:
        os.environ.update(settings)
        os.environ.setdefault("HF_DATASETS_CACHE", cache)
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value


def _answering(model: Any, tokenizer: Any, batch_size: int) -> Any:
    """The model as the harness asks it."""
    from lm_eval.models.huggingface import HFLM

    return HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch_size, device=str(model.device))


def _run(model: Any, folder: Path | None, names: list[str], *, limit: int | None, seed: int) -> Results:
    """Tasks of one folder, from within it, so that their data are found."""
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    tasks = TaskManager(include_path=str(folder) if folder else None, include_defaults=folder is None)
    if unknown := [name for name in names if name not in tasks.all_tasks]:
        raise Refused(f"The harness knows no task called {', '.join(unknown)}.")
    with contextlib.chdir(folder or Path.cwd()):
        try:
            answer = simple_evaluate(
                model=model,
                tasks=names,
                task_manager=tasks,
                limit=limit,
                log_samples=False,
                random_seed=seed,
                numpy_random_seed=seed,
                torch_random_seed=seed,
                fewshot_random_seed=seed,
            )
        except (FileNotFoundError, ConnectionError, ValueError) as error:
            raise Refused(f"The task could not be run: {str(error).strip() or type(error).__name__}") from error
    return plain(answer or {})


def plain(answer: dict[str, Any]) -> Results:
    """What the harness answers, as plain numbers: it holds NumPy's floats, and 'N/A' where there is no error."""
    found: Results = {}
    for task, measured in (answer.get("results") or {}).items():
        metrics: dict[str, Any] = {}
        for key, value in measured.items():
            metric, _, rule = key.partition(",")
            if not rule or metric.endswith("_stderr"):
                continue
            label = metric if rule == "none" else f"{metric} ({rule})"
            metrics[label] = {"value": _number(value), "stderr": _number(measured.get(f"{metric}_stderr,{rule}"))}
        rows = (answer.get("n-samples") or {}).get(task) or {}
        found[task] = {
            "metrics": metrics,
            "rows": rows.get("effective"),
            "shots": (answer.get("n-shot") or {}).get(task),
        }
    return found


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def main(argv: list[str] | None = None) -> int:
    """Print a table, or JSON alone with `--json`; what the harness says goes to standard error."""
    parser = argparse.ArgumentParser(prog="python -m slm.harness", description=__doc__)
    parser.add_argument("model", help="a folder of weights (safetensors) with its tokenizer")
    parser.add_argument("--adapter", action="append", default=[], help="an adapter's folder; repeat it for a chain")
    parser.add_argument("--tasks", nargs="+", required=True, help="task files (YAML), or names with --online")
    parser.add_argument("--limit", type=int, help="only so many rows of each task")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--online", action="store_true", help="allow the harness to fetch tasks' data from a hub")
    parser.add_argument("--json", action="store_true", dest="as_json", help="print JSON and nothing else")
    asked = parser.parse_args(argv)
    model = ModelRef(model_id="model", name=Path(asked.model).name, path=asked.model, adapters=tuple(asked.adapter))
    try:
        found = evaluate(model, asked.tasks, limit=asked.limit, batch_size=asked.batch_size, seed=asked.seed,
                         online=asked.online)  # fmt: skip
    except (Refused, RunFailure) as error:
        print(error, file=sys.stderr)
        return 1
    if asked.as_json:
        print(json.dumps(found, indent=2, allow_nan=False))
        return 0
    for task, measured in found.items():
        for metric, score in measured["metrics"].items():
            spread = f" ± {score['stderr']:.4f}" if score["stderr"] is not None else ""
            value = f"{score['value']:.4f}" if score["value"] is not None else "–"
            print(f"{task:<30} {metric:<28} {value}{spread}   {measured['rows']} rows")
    return 0


if __name__ == "__main__":
    sys.exit(main())
