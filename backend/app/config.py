"""Settings: each documented once, here; `.env.example`, the reference page and `--help` are made from it.

Read from the environment (upper case) and from `.env` in the backend's folder. Relative paths are relative to the
folder the service is started in.
"""

from __future__ import annotations

import logging
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import platformdirs
from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

BACKEND = Path(__file__).resolve().parent.parent


class Settings(BaseSettings):
    model_config = SettingsConfigDict(
        env_file=BACKEND / ".env", extra="ignore", use_attribute_docstrings=True, env_ignore_empty=True
    )

    database_url: str = "sqlite:///./database.db"
    """Where rows live: SQLite by default, or `postgresql+psycopg://user:password@host/name`."""
    upload_dir: Path = Path("./uploads")
    """Folder of uploaded dataset files."""
    data_dir: Path = Path("./data")
    """Folder of run directories, checkpoints and artifacts."""
    models_dir: Path = Field(default_factory=lambda: platformdirs.user_cache_path("slm-platform") / "models")
    """Folder of base model weights; shared between checkouts, in the user's cache folder by default."""
    cors_origins: Annotated[list[str], NoDecode] = [
        "http://localhost:8501",
        "http://127.0.0.1:8501",
        "http://localhost:8502",
        "http://127.0.0.1:8502",
    ]
    """Origins of web pages that may call the service from a browser; comma-separated."""
    allow_remote: bool = False
    """Whether callers from other machines may use the service: whoever reaches the port may then do everything."""
    allowed_hosts: Annotated[list[str], NoDecode] = []
    """Further host names (besides loopback names) under which the service may be addressed; comma-separated."""
    max_upload_bytes: int = Field(default=5 * 1024**3, ge=1)
    """Largest dataset file accepted, in bytes."""
    max_concurrent_runs: int = Field(default=1, ge=1, le=64)
    """Trainings that run at once on this machine; the rest wait in order."""
    default_executor: Literal["auto", "local", "simulation"] = "auto"
    """Executor of experiments that name none: `auto` trains for real where the weights are here, else simulates."""
    training_simulation_delay: float = Field(default=5, ge=0)
    """Seconds before a simulated training starts."""
    training_simulation_duration: float = Field(default=30, ge=0)
    """Seconds that a simulated training takes."""
    training_simulation_failure_rate: float = Field(default=0.1, ge=0, le=1)
    """Share of simulated trainings that fail."""
    supervise: bool = True
    """Whether the service drives runs itself; false where `slm supervise` does."""
    supervisor_interval: float = Field(default=0.5, gt=0, le=60)
    """Seconds between two looks at the runs."""
    lease_seconds: float = Field(default=15, gt=0)
    """A supervisor that is silent for so long loses its runs to another."""
    silence_timeout: float = Field(default=900, gt=0)
    """Seconds without a sign of life after which a training counts as hung and is ended."""
    cancel_grace_seconds: float = Field(default=60, ge=0)
    """Seconds a cancelled training has to save and leave before it is ended by force."""
    max_attempts_without_progress: int = Field(default=3, ge=1, le=100)
    """Attempts without a new checkpoint after which a run is given up."""
    warm_process: bool = True
    """Whether a process with the training libraries imported stands ready (Linux; about 0.6 GB, shared by all runs)."""
    threads: int | None = Field(default=None, ge=1)
    """CPU threads of a training; empty takes the physical cores."""
    chat_memory_bytes: int | None = Field(default=None, ge=1)
    """Memory that the models loaded for chat may take together, in bytes; empty takes half of the machine's."""
    chat_idle_seconds: float = Field(default=300, gt=0)
    """Seconds after which a model that nobody talks to is unloaded."""
    chat_queue: int = Field(default=8, ge=0, le=1000)
    """Chat requests that may wait while another one is answered; every further one is told to come back later."""
    chat_context_tokens: int = Field(default=4096, ge=16, le=131_072)
    """Longest conversation in tokens, the answer included, where the model itself can read so much."""
    chat_threads_while_training: int = Field(default=1, ge=1)
    """CPU threads of a chat while a training runs on this machine; at other times it takes `THREADS`."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """How much the service writes to its log."""

    @field_validator("cors_origins", "allowed_hosts", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        text = value.strip().removeprefix("[").removesuffix("]")
        return [part.strip().strip("\"'") for part in text.split(",") if part.strip()]

    @cached_property
    def runs_dir(self) -> Path:
        return self.data_dir.resolve() / "runs"


def configure_logging(level: str) -> None:
    """One line a message on standard error; migrations speak up only when something is wrong."""
    logging.basicConfig(level=level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s")
    for name in ("alembic", "httpx2"):
        logging.getLogger(name).setLevel(logging.WARNING)
