"""Whether a list of 50 and a creation cost the same at 100,000 experiments as at 1,000.

    python bench/listing.py [--many 100000] [--requests 200]

Two databases on disk, one small, one large, behind the same application in this process; requests to both in turn.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from fastapi.testclient import TestClient
from measure import median, show, verdict
from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from app.config import Settings
from app.database import Database
from app.main import create_app
from app.migrations import upgrade
from app.models import Experiment
from app.models.columns import new_id, utcnow
from app.services import model as models

FEW = 1000
LINES = 20


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--many", type=int, default=100_000)
    parser.add_argument("--requests", type=int, default=200)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-listing-") as name:
        few, many = (Side(Path(name) / str(count), count) for count in (FEW, arguments.many))
        with few.client, many.client:
            few.begin()
            many.begin()
            results = [
                compare("listing 50", few.listed, many.listed, arguments.requests),
                compare("creating", few.created, many.created, arguments.requests),
            ]
    return verdict(results)


class Side:
    """One application on a database with `count` experiments."""

    def __init__(self, folder: Path, count: int) -> None:
        folder.mkdir()
        self.count = count
        self.settings = Settings(
            _env_file=None, database_url=f"sqlite:///{folder}/database.db", upload_dir=folder / "uploads",
            data_dir=folder / "data", models_dir=folder / "models", supervise=False, warm_process=False,
        )  # type: ignore[call-arg]  # fmt: skip
        upgrade(self.settings.database_url)
        self.client = TestClient(create_app(self.settings))
        self.body: dict[str, str] = {}

    def begin(self) -> None:
        rows = "prompt,completion\n" + "".join(f"q{n},a{n}\n" for n in range(LINES))
        form = {"name": "n", "dataset_type": "training"}
        dataset = self.client.post("/datasets/upload", data=form, files={"file": ("a.csv", rows)}).json()["id"]
        base = self.client.get("/models?model_type=base").json()[0]["id"]
        self.body = {"name": "n", "base_model_id": base, "training_dataset_id": dataset}
        database = Database(self.settings.database_url)
        database.write(lambda session: fill(session, self.count, dataset))
        database.close()

    def listed(self) -> None:
        assert len(self.client.get("/experiments?limit=50").json()) == 50

    def created(self) -> None:
        assert self.client.post("/experiments", json=self.body).status_code == 201


def fill(session: Session, count: int, dataset: str) -> None:
    base = session.scalars(select(models.Model.id)).first()
    start = utcnow() - timedelta(days=365)
    rows = [
        {
            "id": new_id(), "name": f"experiment {n}", "base_model_id": base, "training_dataset_id": dataset,
            "training_config": {}, "requested_config": {}, "executor": "simulation", "executor_reason": "",
            "simulated": True, "method": "sft", "adapter": "lora", "seed": n, "warnings": [],
            "status": "completed", "created_at": start + timedelta(seconds=n), "run_id": None,
        }
        for n in range(count)
    ]  # fmt: skip
    for at in range(0, count, 5000):
        session.execute(insert(Experiment), rows[at : at + 5000])


def compare(name: str, few: Callable[[], None], many: Callable[[], None], requests: int) -> bool:
    taken: dict[str, list[float]] = {"few": [], "many": []}
    for _ in range(requests):
        for side, call in (("few", few), ("many", many)):
            began = time.perf_counter()
            call()
            taken[side].append(1000 * (time.perf_counter() - began))
    return show(f"{name}, p50", ours=median(taken["many"]), peer=median(taken["few"]), unit="ms", at_most=1.2)


if __name__ == "__main__":
    sys.exit(main())
