"""Tables of a study's data: columns by name, written as CSV and read back to the same bits."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Table:
    """Columns of equal length, numbers or words; units stand at the end of their names."""

    columns: Mapping[str, np.ndarray]

    @classmethod
    def of(cls, rows: Iterable[Mapping[str, Any]]) -> Table:
        """The table of rows that have the same columns."""
        rows = list(rows)
        return cls({name: np.array([row[name] for row in rows]) for name in rows[0]})

    @classmethod
    def read(cls, text: str) -> Table:
        """The table that `csv` has written."""
        header, *rows = list(csv.reader(io.StringIO(text)))
        columns = zip(*rows, strict=True)
        return cls({name: _array(each) for name, each in zip(header, columns, strict=True)})

    def csv(self) -> str:
        """A header and a line for each row; floats in the fewest digits that give their bits."""
        content = io.StringIO()
        writer = csv.writer(content, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows(zip(*(x.tolist() for x in self.columns.values()), strict=True))
        return content.getvalue()

    def __getitem__(self, name: str) -> np.ndarray:
        """One column."""
        return self.columns[name]

    def __len__(self) -> int:
        """How many rows."""
        return len(next(iter(self.columns.values())))

    def where(self, **equal: Any) -> Table:
        """The rows in which columns have these values."""
        chosen = np.ones(len(self), bool)
        for name, value in equal.items():
            chosen &= self[name] == value
        return Table({name: x[chosen] for name, x in self.columns.items()})

    def values(self, name: str) -> list[Any]:
        """The different values of a column in the order in which they come."""
        return list(dict.fromkeys(self[name].tolist()))

    def grouped(self, value: str, *keys: str) -> np.ndarray:
        """A column by the values of others, (len of each key, repetitions); rows are complete.

        Rows that have the same keys stand along the last axis, in their order.
        """
        index = [np.searchsorted(np.sort(self.values(key)), self[key]) for key in keys]
        order = [np.argsort(np.argsort(self.values(key))) for key in keys]
        flat = np.ravel_multi_index(index, [len(self.values(key)) for key in keys])
        shape = [len(self.values(key)) for key in keys]
        rows = self[value][np.argsort(flat, kind="stable")].reshape(*shape, -1)
        return np.asarray(rows[np.ix_(*order, np.arange(rows.shape[-1]))])


def _array(words: tuple[str, ...]) -> np.ndarray:
    try:
        return np.array([float(word) for word in words])
    except ValueError:
        return np.array(words)
