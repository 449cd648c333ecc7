"""The registry of models: seeded bases, registered ones, fine-tuned ones; where their weights come from and are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from app.config import Settings
from app.errors import Conflict, FieldError, NotFound, StillReferenced
from app.models import Artifact, Evaluation, Experiment, Model, Run, Tombstone
from app.models.columns import new_id, utcnow
from app.models.run import ACTIVE
from app.services import removal, training
from app.services.listing import Page, newest_first
from slm.bundled import BUNDLED, MINILM, SMOLLM2
from slm.spec import WEIGHTS_MARKER, FolderSource, HubSource, PullSpec


@dataclass(frozen=True)
class Seed:
    """A base model that every installation knows from its first start."""

    key: str
    name: str
    parameters: int
    description: str
    source: dict[str, Any]
    details: dict[str, Any]


def _hub(name: str) -> dict[str, Any]:
    return HubSource(hub=name).model_dump()


SEEDS = (
    Seed("gpt2-small", "GPT-2 Small", 124_000_000, "OpenAI's GPT-2, the smallest.", _hub("openai-community/gpt2"),
         {"family": "gpt2", "task": "causal", "license": "MIT"}),
    Seed("gpt2-medium", "GPT-2 Medium", 355_000_000, "OpenAI's GPT-2, medium size.",
         _hub("openai-community/gpt2-medium"), {"family": "gpt2", "task": "causal", "license": "MIT"}),
    Seed("bert-base", "BERT Base", 110_000_000, "Google's BERT, base size, uncased.",
         _hub("google-bert/bert-base-uncased"), {"family": "bert", "task": "encoder", "license": "Apache-2.0"}),
    Seed(SMOLLM2, "SmolLM2 135M Instruct", 134_515_008,
         "A small instruction-tuned language model that trains on an ordinary laptop. " + BUNDLED[SMOLLM2].note,
         BUNDLED[SMOLLM2].model_dump(),
         {"family": "llama", "task": "causal", "license": "Apache-2.0", "note": BUNDLED[SMOLLM2].note}),
    Seed(MINILM, "MiniLM L6", 22_713_216,
         "A small pretrained encoder for classification that trains on an ordinary laptop. " + BUNDLED[MINILM].note,
         BUNDLED[MINILM].model_dump(),
         {"family": "bert", "task": "encoder", "license": "Apache-2.0", "note": BUNDLED[MINILM].note}),
)  # fmt: skip
"""The first three are what clients expect to find first; see `listing`."""


def seed(session: Session) -> None:
    """Add the seeded bases that are not there yet; each later than the one before, so that order is kept."""
    known = set(session.scalars(select(Model.seed_key).where(Model.seed_key.is_not(None))))
    start = utcnow()
    for position, entry in enumerate(SEEDS):
        if entry.key not in known:
            session.add(
                Model(
                    name=entry.name,
                    model_type="base",
                    version="1.0",
                    architecture="transformer",
                    parameters_count=entry.parameters,
                    created_at=start + timedelta(milliseconds=position),
                    description=entry.description,
                    details=entry.details,
                    source=entry.source,
                    weights_folder=entry.key,
                    weights_format="model",
                    seed_key=entry.key,
                )
            )
    session.flush()


def listing(session: Session, page: Page, *, model_type: str | None) -> Sequence[Model]:
    """Models newest first, but without paging the seeded bases keep their place at the top, in seed order.

    Clients take the first base of the list; a model registered later must not surprise them.
    """
    query = select(Model)
    if model_type is not None:
        query = query.where(Model.model_type == model_type)
    rows = newest_first(session, query, Model, page)
    if page.limit is None and page.after is None:
        order = {entry.key: position for position, entry in enumerate(SEEDS)}
        seeded = sorted((row for row in rows if row.seed_key in order), key=lambda row: order[row.seed_key or ""])
        return [*seeded, *(row for row in rows if row.seed_key not in order)]
    return rows


def get(session: Session, model_id: str, *, missing: str = "Model not found") -> Model:
    model = session.get(Model, model_id)
    if model is None:
        raise NotFound(missing)
    return model


def evaluations_of(session: Session, model_id: str) -> list[str]:
    return list(session.scalars(select(Evaluation.id).where(Evaluation.model_id == model_id)))


def weights_path(model: Model, settings: Settings) -> Path | None:
    """The folder of the model's own weights: whole ones of a base, whole or an adapter of a fine-tuned one."""
    if model.weights_folder is None:
        return None
    root = settings.models_dir if model.model_type == "base" else settings.data_dir
    return root.resolve() / model.weights_folder


def weights_present(model: Model, settings: Settings) -> bool:
    """Whether the weights are on this machine: a look at the disk, never inside a write."""
    path = weights_path(model, settings)
    if path is None or model.simulated:
        return False
    return (path / WEIGHTS_MARKER).is_file() if model.model_type == "base" else path.is_dir()


def weights_state(session: Session, model: Model, settings: Settings) -> str:
    """`present`, `pulling` or `absent`."""
    if weights_present(model, settings):
        return "present"
    return "pulling" if active_pull(session, model.id) is not None else "absent"


def active_pull(session: Session, model_id: str) -> Run | None:
    query = select(Run).where(Run.model_id == model_id, Run.task == "pull", Run.state.in_(ACTIVE)).limit(1)
    return session.scalars(query).first()


def latest_pull(session: Session, model_id: str) -> Run | None:
    query = select(Run).where(Run.model_id == model_id, Run.task == "pull").order_by(Run.id.desc()).limit(1)
    return session.scalars(query).first()


def register(
    session: Session, *, name: str, source: Mapping[str, Any], description: str | None, tags: list[str]
) -> Model:
    """Add a base model whose weights come from a hub or a folder below `models_dir`; nothing is fetched yet."""
    if "hub" in source:
        resolved: HubSource | FolderSource = HubSource(hub=source["hub"], revision=source.get("revision"))
        folder = f"hub-{source['hub'].replace('/', '--')}" + (
            f"@{source['revision']}" if source.get("revision") else ""
        )
    else:
        resolved = FolderSource(folder=source["folder"])
        folder = source["folder"]
    if session.scalars(select(Model.id).where(Model.name == name, Model.model_type == "base")).first() is not None:
        message = f"A base model called '{name}' exists already; choose another name."
        raise Conflict(message, code="name_taken")
    model = Model(
        name=name,
        model_type="base",
        architecture="transformer",
        parameters_count=0,
        description=description,
        details={},
        tags=tags,
        source=resolved.model_dump(),
        weights_folder=folder,
        weights_format="model",
    )
    session.add(model)
    session.flush()
    return model


def checked_folder(folder: str, settings: Settings) -> str:
    """A folder's name relative to `models_dir`, proven to lie inside it. Raises `NotFound`."""
    root = settings.models_dir.resolve()
    path = (root / folder).resolve()
    if path == root or not path.is_relative_to(root) or not path.is_dir():
        message = f"There is no folder '{folder}' below models_dir."
        raise NotFound(message, errors=(FieldError("source.folder", message),))
    return str(path.relative_to(root))


def pull(session: Session, model_id: str, *, models_dir: Path) -> tuple[Run, bool]:
    """Queue the fetching of a base model's weights; (run, whether it is new). A pull under way is returned as it is."""
    model = get(session, model_id)
    if model.model_type != "base" or model.source is None or model.weights_folder is None:
        raise Conflict(f"'{model.name}' was made here; its weights are not fetched from anywhere.", code="not_a_base")
    under_way = active_pull(session, model_id)
    if under_way is not None:
        return under_way, False
    identity = new_id()
    source = dict(model.source)
    destination = models_dir / model.weights_folder
    if source["kind"] == "folder":
        source["folder"] = str(models_dir / source["folder"])
    spec = PullSpec.model_validate(
        {
            "run_id": identity,
            "attempt": 1,
            "model_id": model.id,
            "name": model.name,
            "source": source,
            "destination": str(destination),
        }
    )
    run = training.alone(spec, model_id=model.id)
    session.add(run)
    session.flush()
    return run, True


def weights_pulled(session: Session, *, model_id: str, marker: Mapping[str, Any]) -> None:
    """Take what the pull found out about the weights into the row; a seeded model keeps the figures clients know."""
    model = get(session, model_id)
    known = {
        key: marker[key] for key in ("sha256", "size_bytes", "model_type", "architectures", "note") if key in marker
    }
    architectures = " ".join(marker.get("architectures", []))
    task = "causal" if "CausalLM" in architectures or "LMHead" in architectures else "encoder"
    details: dict[str, Any] = {"task": task, **(model.details or {}), "weights_detail": known}
    details["parameters_measured"] = marker.get("parameters_count")
    model.details = details
    if model.parameters_count == 0:
        model.parameters_count = int(marker.get("parameters_count") or 0)
    session.flush()


def update(session: Session, model_id: str, *, changes: Mapping[str, Any]) -> Model:
    model = get(session, model_id)
    for key in ("name", "description", "tags"):
        if key in changes:
            setattr(model, key, changes[key])
    session.flush()
    return model


def delete(session: Session, model_id: str) -> list[Tombstone]:
    """Remove the row; what is returned names the folders of its files: a fine-tuned model's weights, and whatever
    evaluations and other runs left of it.

    Weights of a base stay: they are shared between installations. Raises `StillReferenced` naming what refers to it.
    """
    model = get(session, model_id)
    uses = or_(Experiment.base_model_id == model_id, Experiment.resulting_model_id == model_id)
    names = list(session.scalars(select(Experiment.name).where(uses).limit(3)))
    if names:
        shown = ", ".join(f"'{name}'" for name in names)
        raise StillReferenced(f"The model belongs to the experiment {shown}; delete that first.")
    children = session.scalar(select(func.count()).where(Model.base_model_id == model_id)) or 0
    if children:
        raise StillReferenced(f"{children} fine-tuned models were made from this one; delete them first.")
    if active_pull(session, model_id) is not None:
        raise StillReferenced("The model's weights are being pulled; cancel that first.")
    using = select(Run.task).where(Run.model_id == model_id, Run.state.in_(ACTIVE)).limit(1)
    if (task := session.scalar(using)) is not None:
        raise StillReferenced(f"The model is in use by a run ({task}); cancel that first.")
    folders = {f"runs/{name}" for name in session.scalars(select(Run.directory).where(Run.model_id == model_id))}
    for artifact in session.scalars(select(Artifact).where(Artifact.model_id == model_id)):
        folders.add("/".join(artifact.path.split("/")[:2]))
        session.delete(artifact)
    if model.model_type == "fine_tuned" and model.weights_folder:
        folders.add("/".join(model.weights_folder.split("/")[:2]))
    session.delete(model)
    return removal.bury(session, data=sorted(folders))
