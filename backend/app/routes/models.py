"""`/models`: the registry of base and fine-tuned models, and the fetching of base weights."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Response
from sqlalchemy.orm import Session

from app.config import Settings
from app.models import Model
from app.routes.deps import AppSettings, Db, PagedAnswer, PageQuery, ReadSession
from app.routes.problems import declared
from app.schemas.model import ModelAnswer, ModelChanges, ModelDetail, NewModel
from app.schemas.run import RunAnswer
from app.services import model as service
from app.services import removal

router = APIRouter(prefix="/models", tags=["Models"])
ModelId = Annotated[str, Path(max_length=64, examples=["01a20b4e-acbc-7f03-9d20-ccef5efd5345"])]


@router.get("", response_model=list[ModelAnswer], responses=declared(400), summary="List models")
def list_models(
    session: ReadSession,
    page: PageQuery,
    paged: PagedAnswer,
    model_type: Annotated[Literal["base", "fine_tuned"] | None, Query(description="Only these.")] = None,
) -> Any:
    """Newest first; the seeded bases stand at the top of the whole list, GPT-2 Small first."""
    return paged(service.listing(session, page, model_type=model_type), page)


@router.post(
    "", status_code=201, response_model=ModelDetail, responses=declared(404, 409), summary="Register a base model"
)
def register_model(body: NewModel, db: Db, settings: AppSettings) -> Any:
    """From a Hugging Face hub, or a folder of safetensors or GGUF below `models_dir`. Pull it to make it usable."""
    source = body.source.model_dump(exclude_unset=True)
    if "folder" in source:
        source["folder"] = service.checked_folder(source["folder"], settings)
    model = db.write(
        lambda session: service.register(
            session, name=body.name, source=source, description=body.description, tags=body.tags
        )
    )
    with db.read() as session:
        return _detail(session, model, settings)


@router.get("/{model_id}", response_model=ModelDetail, responses=declared(404), summary="A model in detail")
def get_model(model_id: ModelId, session: ReadSession, settings: AppSettings) -> Any:
    return _detail(session, service.get(session, model_id), settings)


@router.patch(
    "/{model_id}", response_model=ModelDetail, responses=declared(404), summary="Change name, description, tags"
)
def change_model(model_id: ModelId, body: ModelChanges, db: Db, settings: AppSettings) -> Any:
    changes = body.model_dump(exclude_unset=True)
    model = db.write(lambda session: service.update(session, model_id, changes=changes))
    with db.read() as session:
        return _detail(session, model, settings)


@router.delete("/{model_id}", status_code=204, responses=declared(404, 409), summary="Delete a model")
def delete_model(model_id: ModelId, db: Db, settings: AppSettings) -> None:
    """A fine-tuned model goes with its files. Refused with 409 while an experiment or another model refers to it."""
    removal.clear(db, settings, db.write(lambda session: service.delete(session, model_id)))


@router.post(
    "/{model_id}/pull",
    status_code=202,
    response_model=RunAnswer,
    responses=declared(404, 409),
    summary="Fetch its weights",
)
def pull_model(model_id: ModelId, db: Db, settings: AppSettings, response: Response) -> Any:
    """Starts a run that fetches, checks and converts the weights; watch it at `/runs/{id}`. Harmless to repeat:
    a pull under way is answered as it is, weights already here make a run that ends at once."""
    models_dir = settings.models_dir.resolve()
    run, _ = db.write(lambda session: service.pull(session, model_id, models_dir=models_dir))
    response.headers["Location"] = f"/runs/{run.id}"
    return run


def _detail(session: Session, model: Model, settings: Settings) -> ModelDetail:
    metadata: dict[str, Any] = dict(model.details or {})
    if model.model_type == "base":
        metadata["weights"] = service.weights_state(session, model, settings)
        last = service.latest_pull(session, model.id)
        if last is not None:
            metadata["pull"] = {"run_id": last.id, "state": last.state, "progress": last.progress, "error": last.error}
    path = service.weights_path(model, settings)
    if path is not None and path.is_dir():
        metadata["weights_path"] = str(path)
    return ModelDetail(
        **{key: getattr(model, key) for key in ModelAnswer.model_fields},
        base_model_id=model.base_model_id,
        description=model.description,
        metadata=metadata,
        linked_evaluations=service.evaluations_of(session, model.id) or None,
        tags=list(model.tags or []),
        experiment_id=model.experiment_id,
        source=model.source,
    )
