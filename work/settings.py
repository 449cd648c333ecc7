"""Settings of the workbench, read from the environment (upper case) and from `.env` beside this file."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

HERE = Path(__file__).resolve().parent


class Settings(BaseSettings):
    model_config = SettingsConfigDict(
        env_file=HERE / ".env", extra="ignore", use_attribute_docstrings=True, env_ignore_empty=True
    )

    api_base_url: str = "http://localhost:8000"
    """Where the service answers."""
    slm_api_key: SecretStr | None = None
    """Sent to the service as a bearer key; it never reaches a browser."""
    workbench_address: str = "127.0.0.1"
    """Where the workbench listens; `0.0.0.0` lets other machines look (the service still decides what they may see)."""
    workbench_port: int | None = Field(default=None, ge=1, le=65535)
    """Its port; empty takes 8501 or the next free one."""
    allowed_hosts: Annotated[list[str], NoDecode] = []
    """Names (besides localhost and plain addresses) by which the workbench may be addressed; comma-separated."""

    @field_validator("allowed_hosts", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return [part.strip().lower() for part in value.split(",") if part.strip()] if isinstance(value, str) else value

    @property
    def key(self) -> str | None:
        return self.slm_api_key.get_secret_value() if self.slm_api_key else None


@cache
def settings() -> Settings:
    """Read once for each process."""
    return Settings()
