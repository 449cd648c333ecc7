"""A client for the right service, and rows by id, part of an id, or name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from uuid import UUID

from app.cli.shell import Code, Stop

if TYPE_CHECKING:
    from slm_client import Client, DatasetDetail, ExperimentDetail, ModelDetail

SHORT = 8
"""Characters of an id that tables show: its last ones. The first ones say when, so that those of a minute agree."""


class Named(Protocol):
    @property
    def id(self) -> str: ...
    @property
    def name(self) -> str: ...


T = TypeVar("T", bound=Named)


def address(url: str | None) -> str:
    """What was asked for; else the service of this installation; else the usual address."""
    from slm_client import DEFAULT_URL

    if url:
        return url if "://" in url else f"http://{url}"
    from app.cli.places import running_service, settings

    service = running_service(settings().data_dir)
    return service.url if service is not None else DEFAULT_URL


def client(url: str | None, key: str | None) -> Client:
    from slm_client import Client

    return Client(address(url), api_key=key)


def short(identity: str) -> str:
    return identity[-SHORT:]


def pick(noun: str, rows: Iterable[T], wanted: str) -> T:
    """The one row that `wanted` names: by id, by name, by the beginning or end of either, or by words in the name.

    Raises `Stop`: refused where there is none, usage where there are several.
    """
    found = list(rows)
    text = wanted.strip().casefold()
    part = len(text) >= 4
    rules = (
        lambda row: row.id == text,
        lambda row: row.name.casefold() == text,
        lambda row: part and (row.id.startswith(text) or row.id.endswith(text)),
        lambda row: bool(text) and row.name.casefold().startswith(text),
        lambda row: bool(text) and text in row.name.casefold(),
    )
    for rule in rules:
        matches = [row for row in found if rule(row)]
        if len(matches) == 1:
            return matches[0]
        if matches:
            listed = "\n".join(f"  {row.id}  {row.name}" for row in matches[:10])
            more = f"\n  and {len(matches) - 10} more" if len(matches) > 10 else ""
            raise Stop(f"'{wanted}' may be any of these {noun}s; give the id:\n{listed}{more}", Code.USAGE)
    raise Stop(f"There is no {noun} '{wanted}'; `slm list {noun}s` shows what there is.", Code.REFUSED)


def experiment(connection: Client, wanted: str) -> ExperimentDetail:
    rows = connection.experiments
    return rows.get(wanted if _is_id(wanted) else pick("experiment", rows.iterate(page_size=1000), wanted).id)


def dataset(connection: Client, wanted: str, *, dataset_type: str | None = None) -> DatasetDetail:
    rows = connection.datasets
    if _is_id(wanted):
        return rows.get(wanted)
    return rows.get(pick("dataset", rows.iterate(dataset_type=dataset_type, page_size=1000), wanted).id)


def model(connection: Client, wanted: str) -> ModelDetail:
    rows = connection.models
    return rows.get(wanted if _is_id(wanted) else pick("model", rows.iterate(page_size=1000), wanted).id)


def anything(connection: Client, wanted: str) -> tuple[str, Any]:
    """The noun and the detail of whatever `wanted` names, looked for among experiments, models, then datasets."""
    for noun, look in (("experiment", experiment), ("model", model), ("dataset", dataset)):
        try:
            return noun, _tried(look, connection, wanted)
        except LookupError:
            continue
    evaluations = [row for row in connection.evaluations.iterate(page_size=1000) if _names(row.id, wanted)]
    if len(evaluations) == 1:
        return "evaluation", connection.evaluations.get(evaluations[0].id)
    raise Stop(f"Nothing here is called '{wanted}'; `slm list` shows what there is.", Code.REFUSED)


def _tried(look: Any, connection: Client, wanted: str) -> Any:
    from slm_client import NotFound

    try:
        return look(connection, wanted)
    except NotFound:
        raise LookupError from None
    except Stop as stop:
        if stop.code is Code.REFUSED:
            raise LookupError from None
        raise


def _names(identity: str, wanted: str) -> bool:
    text = wanted.strip().casefold()
    return identity == text or (len(text) >= 4 and (identity.startswith(text) or identity.endswith(text)))


def _is_id(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return len(text) == 36
