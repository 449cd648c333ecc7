"""What all commands share: exit codes, options, and the one place where errors become a sentence and a code."""

from __future__ import annotations

import json
import os
import sys
from enum import IntEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

if TYPE_CHECKING:
    from slm_client import SlmError


class Code(IntEnum):
    """What a script may rely on; listed in `slm --help`."""

    OK = 0
    FAILED = 1
    USAGE = 2
    CANCELLED = 3
    REFUSED = 4
    UNREACHABLE = 69
    DETACHED = 130


CODES = (
    "Exit codes: 0 done · 1 the run or the check failed · 2 wrong usage · 3 the run was cancelled · "
    "4 the service refused · 69 no service answers · 130 Ctrl-C (a training goes on)"
)


class Stop(Exception):
    """Ends a command with a sentence on stderr and an exit code."""

    def __init__(self, message: str, code: Code = Code.FAILED) -> None:
        super().__init__(message)
        self.message = message
        self.code = code


class Group(TyperGroup):
    """Turns every expected error into a sentence and its exit code; a defect keeps its traceback."""

    def invoke(self, ctx: Any) -> Any:
        from slm_client import SlmError

        from app.errors import PlatformError

        try:
            return super().invoke(ctx)
        except Stop as stop:
            code, message = stop.code, stop.message
        except KeyboardInterrupt:
            code, message = Code.DETACHED, "Interrupted."
        except BrokenPipeError:
            # The reader (`| head`) has seen enough; what Python would still flush has nowhere to go.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code, message = Code.OK, ""
        except SlmError as error:
            code, message = _told(error)
        except PlatformError as error:
            code, message = Code.FAILED, error.message
        except OSError as error:
            if error.filename is None:
                raise
            code, message = Code.FAILED, f"{error.filename}: {error.strerror}."
        if message:
            typer.echo(message, err=True)
        raise typer.Exit(int(code))


def _told(error: SlmError) -> tuple[Code, str]:
    """Exit code and sentence of what the client raised."""
    from slm_client import ApiError

    if not isinstance(error, ApiError):
        return Code.UNREACHABLE, str(error)
    # The detail already tells the first field's story; the further ones follow.
    further = [f"  {item.field}: {item.message}" for item in error.errors[1:]]
    return Code.REFUSED, "\n".join([error.detail, *further])


Url = Annotated[
    str | None,
    typer.Option(
        "--url",
        envvar="SLM_API_URL",
        show_default=False,
        rich_help_panel="Connection",
        help="Address of the service; left out, the one that `slm serve` started, else http://localhost:8000.",
    ),
]
Key = Annotated[
    str | None,
    typer.Option(
        "--key", envvar="SLM_API_KEY", show_default=False, rich_help_panel="Connection", help="API key, where needed."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts, and nothing else on standard output.")]
NoWatch = Annotated[bool, typer.Option("--no-watch", help="Return at once instead of watching.")]


def print_json(document: Any) -> None:
    """One document, readable, on standard output."""
    typer.echo(json.dumps(document, indent=2, ensure_ascii=False, default=str))


def say(text: str, *, quiet: bool = False) -> None:
    """A line for people; on stderr where standard output belongs to a script."""
    typer.echo(text, err=quiet)
