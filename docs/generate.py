"""Write the pages that are made from the code: settings, errors, `.env.example`.

python docs/generate.py           write them
python docs/generate.py --check   exit with 1 where one is not what the code says
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "backend"))

import typer  # noqa: E402
from typer.cli import get_docs_for_click  # noqa: E402
from typer.main import get_command  # noqa: E402

from app import errors as platform_errors  # noqa: E402 - the path is set above
from app.cli.commands import app  # noqa: E402
from app.config import Settings  # noqa: E402
from slm.errors import REASONS  # noqa: E402

OTHERS = {
    "TORCH_INDEX_URL": "The package index that the set-up takes PyTorch from, for example the one of its CPU builds.",
    "SLM_VENV": "Where the set-up puts the virtual environment; `.venv` at the root by default.",
    "SLM_API_URL": "Address of the service for the `slm` command.",
    "SLM_API_KEY": "Key that the `slm` command sends.",
    "HF_ENDPOINT": "The model hub that weights are pulled from; Hugging Face's by default.",
    "HF_TOKEN": "Token for models of the hub that need one; never logged.",
    "PIP_INDEX_URL": "The package index that bundled weights are pulled from, as pip understands it.",
    "OMP_NUM_THREADS": "Threads of tensor work, where `THREADS` does not say it.",
}
NOTE = "<!-- Made from the code by `python docs/generate.py`; change the code, not this page. -->"


def default(name: str) -> str:
    """A setting's default as it is written in `.env`."""
    field = Settings.model_fields[name]
    if name == "models_dir":
        return ""
    value: Any = field.get_default(call_default_factory=True)
    if value is None:
        return ""
    if isinstance(value, list):
        return ",".join(value)
    return str(value).lower() if isinstance(value, bool) else relative(value)


def relative(value: object) -> str:
    return f"./{value}" if isinstance(value, Path) and not value.is_absolute() else str(value)


def env_example() -> str:
    lines = [
        "# Settings of the service: copy this file to .env and change what you need.",
        "# Every value below is the default; an empty one means what its text says. Made by docs/generate.py.",
    ]
    for name, field in Settings.model_fields.items():
        lines += ["", *(f"# {line}" for line in wrapped(field.description or ""))]
        lines.append(f"# {name.upper()}={default(name)}")
    return "\n".join(lines) + "\n"


def wrapped(text: str, width: int = 100) -> Iterator[str]:
    line = ""
    for word in text.split():
        if line and len(line) + 1 + len(word) > width:
            yield line
            line = word
        else:
            line = f"{line} {word}".strip()
    yield line


def settings_page() -> str:
    lines = [
        "# Settings",
        NOTE,
        "",
        "Set as environment variables, or in `backend/.env` (see `backend/.env.example`). The environment wins.",
        "",
        "| Setting | Default | Meaning |",
        "| --- | --- | --- |",
    ]
    for name, field in Settings.model_fields.items():
        shown = f"`{default(name)}`" if default(name) else "none"
        if name == "models_dir":
            shown = "the user's cache folder"
        text = " ".join((field.description or "").split()).replace("|", "\\|")
        lines.append(f"| `{name.upper()}` | {shown} | {text} |")
    lines += ["", "## Variables of others that are honoured", "", "| Variable | Meaning |", "| --- | --- |"]
    lines += [f"| `{name}` | {text} |" for name, text in OTHERS.items()]
    return "\n".join(lines) + "\n"


def commands_page() -> str:
    command = get_command(app)
    text = get_docs_for_click(obj=command, ctx=typer.Context(command), name="slm", title="The `slm` command")
    head, _, rest = text.partition("\n")
    return f"{head}\n{NOTE}\n{rest.strip()}\n"


def errors_page() -> str:
    lines = [
        "# Errors",
        NOTE,
        "",
        "Every refusal is a problem document (RFC 9457): `detail` is a sentence for people, `code` is stable for",
        "programs, `errors` names the fields. A failed run carries `error` with the same kind of code, and a hint.",
        "",
        "## Refusals of the service",
        "",
        "| Code | Status | Title |",
        "| --- | --- | --- |",
    ]
    found = [cls for cls in vars(platform_errors).values() if isinstance(cls, type) and hasattr(cls, "code")]
    ordered = sorted(found, key=lambda cls: (cls.status, cls.code))
    lines += [f"| `{cls.code}` | {cls.status} | {cls.title} |" for cls in ordered]
    lines += ["", "## Reasons why a run fails", "", "| Code | Whose fault | Tried again by itself | What to do |"]
    lines.append("| --- | --- | --- | --- |")
    for code, reason in REASONS.items():
        again = "yes" if reason.retryable else "no"
        lines.append(f"| `{code}` | {reason.fault} | {again} | {reason.hint} |")
    return "\n".join(lines) + "\n"


PAGES = {
    "backend/.env.example": env_example,
    "docs/reference/settings.md": settings_page,
    "docs/reference/errors.md": errors_page,
    "docs/reference/cli.md": commands_page,
}


def main() -> int:
    stale = []
    for name, make in PAGES.items():
        path, text = ROOT / name, make()
        if "--check" not in sys.argv:
            path.write_text(text, encoding="utf-8")
        elif not path.is_file() or path.read_text(encoding="utf-8") != text:
            stale.append(name)
    if stale:
        print(f"Not what the code says: {', '.join(stale)}. Run `python docs/generate.py`.")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
