"""The registry of methods: what is learned, and how. A new method is one module beside `sft` and one line below.

(Its other half, what the platform has to know without loading anything, is a line in `METHOD_FACTS`.)
"""

from __future__ import annotations

from slm.methods.classify import Classify
from slm.methods.dpo import Dpo
from slm.methods.mask import Mask
from slm.methods.pretrain import Pretrain
from slm.methods.recipe import Recipe
from slm.methods.sft import Sft
from slm.spec import Method

__all__ = ["METHODS", "Recipe"]

METHODS: dict[Method, Recipe] = {
    Method.SFT: Sft(),
    Method.PRETRAIN: Pretrain(),
    Method.CLASSIFY: Classify(),
    Method.MASK: Mask(),
    Method.DPO: Dpo(),
}
