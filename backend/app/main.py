"""Wiring: settings, rows, supervisor, routes. `create_app(settings)` builds a service; `app` is the default one."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi_swagger import patch_fastapi
from starlette.routing import Route

from app.config import Settings, configure_logging
from app.database import Database
from app.errors import DatabaseGone, PlatformError
from app.migrations import upgrade
from app.models import Dataset
from app.routes import (
    artifacts,
    datasets,
    evaluations,
    experiments,
    exports,
    generation,
    models,
    plan,
    preview,
    problems,
    runs,
    service,
)
from app.routes.access import Access
from app.schemas.common import Problem
from app.services import generation as generation_service
from app.services import model as model_service
from app.services import removal, storage
from app.services.asks import Asks
from app.services.plan import Trials
from app.services.servers import TEND_SECONDS, Servers
from app.supervisor import Supervisor

_DESCRIPTION = """
Fine-tune, evaluate and keep **small language models** on your own machine:
datasets → experiments → evaluations → models.

Every answer that is not what you asked for is an RFC 9457 problem whose `detail` is a sentence. Lists are bare arrays,
newest first; with `limit` they come in pages, and the `Link` header leads on. Experiments that were simulated say
`simulated: true`: only their numbers are made up.
"""
_DATABASE_CHECK_SECONDS = 1.0
_ROUTES = (service, datasets, preview, models, generation, plan, experiments, runs, evaluations, artifacts, exports)


def create_app(settings: Settings | None = None) -> FastAPI:
    """A service on its own rows and folders. Nothing is touched before it starts."""
    settings = settings or Settings()
    app = FastAPI(
        title="SLM Training Platform",
        version=service.version(),
        description=_DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        swagger_ui_oauth2_redirect_url=None,
        lifespan=_lifespan,
    )
    app.state.settings = settings
    problems.install(app)
    routers = [module.router for module in _ROUTES]
    for router in routers:
        app.include_router(router)
    patch_fastapi(app, redirect_from_root_to_docs=False)
    app.state.routes = [route for source in (app, *routers) for route in source.routes if isinstance(route, Route)]
    app.add_middleware(
        CORSMiddleware,
        allow_origins=settings.cors_origins,
        allow_methods=["*"],
        allow_headers=["*"],
        expose_headers=["Link", "Location", "Content-Disposition", "ETag", "Content-Range"],
    )
    app.add_middleware(Access, settings=settings)
    _declare_problems(app)
    return app


def _declare_problems(app: FastAPI) -> None:
    """One schema of a problem in OpenAPI, which every declared error refers to."""
    original = app.openapi

    def openapi() -> dict[str, object]:
        document = original()
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        if "Problem" not in schemas:
            problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas.update(problem.pop("$defs", {}))
            schemas["Problem"] = problem
            schemas.pop("HTTPValidationError", None)
            schemas.pop("ValidationError", None)
        return document

    app.openapi = openapi  # type: ignore[method-assign]


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    settings: Settings = app.state.settings
    configure_logging(settings.log_level)
    try:
        await asyncio.to_thread(upgrade, settings.database_url)
    except PlatformError as error:
        print(error.message, file=sys.stderr)
        raise SystemExit(3) from None
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    database = Database(settings.database_url)
    database.check_file()
    with database.read() as session:
        storage.sweep(settings.upload_dir, lambda identity: session.get(Dataset, identity) is not None)
    await asyncio.to_thread(removal.finish, database, settings)
    database.write(model_service.seed)
    supervisor = Supervisor(settings, database)
    asks = Asks(settings.data_dir, supervisor.executors["local"])
    await asyncio.to_thread(asks.open)
    app.state.database, app.state.supervisor, app.state.asks = database, supervisor, asks
    app.state.trials = Trials()
    app.state.stopping = threading.Event()
    app.state.servers = Servers(settings)
    await asyncio.to_thread(app.state.servers.open)
    if settings.supervise:
        supervisor.start()
    tasks = [asyncio.create_task(_guard_database(app, database)), asyncio.create_task(_tend_servers(app, database))]
    try:
        yield
    finally:
        app.state.stopping.set()
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        await app.state.servers.close()
        await asyncio.to_thread(asks.close)
        await asyncio.to_thread(supervisor.stop)
        database.close()


async def _guard_database(app: FastAPI, database: Database) -> None:
    """A server on a deleted database would go on writing into a file that nobody can see: stop with a sentence."""
    while True:
        await asyncio.sleep(_DATABASE_CHECK_SECONDS)
        try:
            database.check_file()
        except DatabaseGone as error:
            print(error.message, file=sys.stderr, flush=True)
            app.state.stopping.set()
            os.kill(os.getpid(), signal.SIGTERM)
            return


async def _tend_servers(app: FastAPI, database: Database) -> None:
    """Loaded models that nobody talks to go; those that stay make room for a training."""
    servers: Servers = app.state.servers
    while True:
        await asyncio.sleep(TEND_SECONDS)
        if servers.loaded:
            await servers.tend(training=await asyncio.to_thread(_trains, database))


def _trains(database: Database) -> bool:
    with database.read() as session:
        return generation_service.training_runs(session)


app = create_app()
