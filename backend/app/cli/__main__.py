"""`python -m app.cli`: the same as `slm`."""

from app.cli import main

main()
