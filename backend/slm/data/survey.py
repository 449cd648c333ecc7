"""What a file holds whatever its kind: names, rows, rows with content, rows that occurred before."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from slm.data.duplicates import Duplicates
from slm.data.formats import MAX_COLUMNS, Block, Unusable
from slm.data.kinds import Detector
from slm.data.measure import Group, filled_rows, odd_hash, row_hashes
from slm.spec import DatasetKind

Reading = tuple[DatasetKind | None, Mapping[str, str]]
"""How the rows are understood: the kind, and role → column."""


@dataclass
class Survey:
    rows: int = 0
    filled: int = 0
    columns: dict[str, None] = field(default_factory=dict)
    characters: Counter[str] = field(default_factory=Counter)
    """In each of `columns`."""
    detector: Detector = field(default_factory=Detector)

    def see(self, block: Block, groups: list[Group], odd: list[int]) -> None:
        """Take up one block, split by `grouped`."""
        self.rows += len(block.rows)
        for group in groups:
            self._name(group.names)
            self.detector.see(group.names, len(group.index))
            self.filled += filled_rows(group)
            for place, name in enumerate(group.names):
                if name in self.columns:
                    self.characters[name] += sum(group.lengths(place))
        if odd:
            if block.names is not None:
                self._name(block.names)
                self.detector.see(block.names, len(odd))
            self.filled += sum(_odd_content(block.rows[place]) for place in odd)

    def join(self, later: Survey) -> None:
        """Take up what was seen of the rows that follow. Exact unless `later` is full."""
        self.rows += later.rows
        self.filled += later.filled
        self._name(tuple(later.columns))
        for name, characters in later.characters.items():
            if name in self.columns:
                self.characters[name] += characters
        self.detector.join(later.detector)

    @property
    def full(self) -> bool:
        """Whether further columns may have been passed over."""
        return len(self.columns) >= MAX_COLUMNS

    def _name(self, names: tuple[str, ...]) -> None:
        for name in names:
            if name not in self.columns and len(self.columns) < MAX_COLUMNS:
                self.columns[name] = None

    def reading(self) -> Reading:
        """What the rows so far suggest."""
        kind, mapping, _ = self.detector.decide()
        return kind, mapping or {}


def collect(duplicates: Duplicates, block: Block, groups: list[Group], odd: list[int]) -> None:
    """Add the block's rows, each by its hash; those whose content is not at hand are left out."""
    for group in groups:
        duplicates.add(row_hashes(group))
    if odd:
        duplicates.add(found for place in odd if (found := odd_hash(block.rows[place])) is not None)


def _odd_content(row: Any) -> bool:
    if isinstance(row, dict | Unusable):
        return bool(row)
    return isinstance(row, list) and any(isinstance(cell, str) and cell.strip() for cell in row)
