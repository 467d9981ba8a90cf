"""The namespaces of a snapshot's items: each once, and which one every row has.

An item never changes its namespace, so a row's namespace is known for as long as the row is.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import count
from typing import Final

import numpy as np
import numpy.typing as npt

from luma_memory.domain.search import ItemSelection
from luma_memory.pipeline.recall.groups import Indices

# Of a namespace in a snapshot besides its text: a list, its labels, an entry of a mapping.
_OVERHEAD_BYTES: Final = 300


@dataclass(frozen=True, eq=False)
class RowNamespaces:
    """The namespace of each of n rows; of none at all in a snapshot of blocks.

    texts: the distinct namespaces as JSON, `null` for a block that is no item.
    """

    texts: Sequence[str] = ()
    # [n] positions in `texts`
    of_row: npt.NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, dtype=np.int32))

    @cached_property
    def size_bytes(self) -> int:
        texts = sum(len(text) + _OVERHEAD_BYTES for text in self.texts)
        return texts + self.of_row.nbytes

    @cached_property
    def _labels(self) -> Sequence[Sequence[str]]:
        return [json.loads(text) or () for text in self.texts]

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return dict(zip(self.texts, count()))

    def followed_by(self, added: Sequence[str]) -> RowNamespaces:
        """These rows, then rows with the given namespaces."""
        if not added:
            return self
        numbers = self._numbers
        if not numbers.keys() >= set(added):
            numbers = dict(numbers)
            for text in added:
                numbers.setdefault(text, len(numbers))
        new = np.fromiter((numbers[text] for text in added), dtype=np.int32, count=len(added))
        texts = self.texts if len(numbers) == len(self.texts) else list(numbers)
        return RowNamespaces(texts, np.concatenate([self.of_row, new]))

    def take(self, rows: Indices) -> RowNamespaces:
        """Some of the rows, without the namespaces that only the others have."""
        if not self.texts:
            return self
        used, of_row = np.unique(self.of_row[rows], return_inverse=True)
        return RowNamespaces([self.texts[one] for one in used], of_row.astype(np.int32))

    def selected(self, selection: ItemSelection, rows: Indices) -> npt.NDArray[np.bool_]:
        """[len(rows)] whether each row's namespace begins with the prefix, or is equal to it."""
        prefix = list(selection.prefix)
        stop = None if selection.is_exact else len(prefix)
        fits = np.fromiter(
            (labels[:stop] == prefix for labels in self._labels),
            dtype=bool,
            count=len(self.texts),
        )
        return fits[self.of_row[rows]]
