"""`slm`: the platform on the command line. Through `slm_client` like any stranger, but for what needs no service
(serve, stop, supervise, doctor, db, a pull before any service exists). Imports lazily: `slm --help` is instant.
"""

from __future__ import annotations


def main() -> None:
    """The entry point of the `slm` command."""
    from app.cli.commands import app

    app(prog_name="slm")
