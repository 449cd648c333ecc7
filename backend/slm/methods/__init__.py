"""What differs between ways of learning, one module each. Adding one is a file here and a line in `METHODS`."""

from __future__ import annotations

from types import ModuleType

from slm.methods import sft
from slm.spec import Method

METHODS: dict[Method, ModuleType] = {Method.SFT: sft}
