"""Texts of unlike length packed one after another: rows that batches are taken from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor


class Table(Protocol):
    """Texts of unlike length, as rows that batches are taken from."""

    def __len__(self) -> int: ...

    @property
    def length(self) -> np.ndarray: ...

    def batch(self, index: np.ndarray | Tensor) -> tuple[Tensor, Tensor]: ...

    def take(self, rows: np.ndarray) -> Table: ...


@dataclass(frozen=True)
class Chosen:
    """Some rows of a table, as a table."""

    table: Table
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def length(self) -> np.ndarray:
        """(c,) tokens of each text."""
        return self.table.length[self.rows]

    def batch(self, index: np.ndarray | Tensor) -> tuple[Tensor, Tensor]:
        """The table's batch at these rows."""
        return self.table.batch(self.rows[np.asarray(index)])

    def take(self, rows: np.ndarray) -> Table:
        """Some of these rows, of the table itself."""
        return self.table.take(self.rows[rows])


@dataclass(frozen=True)
class Packed:
    """Where the tokens of c texts lie that are packed one after another.

    Attributes:
        start: (c + 1,) first place of every text, and the end.
        cut: texts that were longer than allowed.
    """

    start: np.ndarray
    cut: int

    def __len__(self) -> int:
        return len(self.start) - 1

    @property
    def length(self) -> np.ndarray:
        """(c,) tokens of each text."""
        return np.diff(self.start)

    def inside(self, rows: np.ndarray) -> np.ndarray:
        """(b, l) bool: which places are tokens where the texts `rows` (b,) are padded on the right."""
        length = self.start[rows + 1] - self.start[rows]
        return np.arange(int(length.max()))[None, :] < length[:, None]

    def _of(self, flat: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What lies in `flat` (t, ...) for some texts, in their order, and where each of them begins."""
        some = [flat[self.start[i] : self.start[i + 1]] for i in rows]
        return np.concatenate(some), np.concatenate([[0], np.cumsum(self.length[rows])]).astype(np.int64)


@dataclass(frozen=True)
class Tokens(Packed):
    """Token ids.

    Attributes:
        ids: (t,) integers; text i has start[i] to start[i + 1].
        pad: id that fills rows on the right.
    """

    ids: np.ndarray
    pad: int

    def batch(self, index: np.ndarray | Tensor) -> tuple[Tensor, Tensor]:
        """Ids (b, l) int64 and which of them are tokens (b, l) bool."""
        rows = np.asarray(index)
        inside = self.inside(rows)
        offset = np.minimum(self.start[rows][:, None] + np.arange(inside.shape[1]), len(self.ids) - 1)
        ids = np.where(inside, self.ids[offset], self.pad)
        return torch.from_numpy(ids.astype(np.int64)), torch.from_numpy(inside)

    def take(self, rows: np.ndarray) -> Tokens:
        """Some texts and nothing else, in their order."""
        ids, start = self._of(self.ids, rows)
        return Tokens(start, self.cut, ids, self.pad)


@dataclass(frozen=True)
class States(Packed):
    """States of all tokens below the layers that are trained.

    Attributes:
        state: (t, d) float16 or float32, or bfloat16 as its bits (uint16); text i has start[i] to
            start[i + 1].
    """

    state: np.ndarray

    def batch(self, index: np.ndarray | Tensor) -> tuple[Tensor, Tensor]:
        """States (b, l, d) float32, padded with zeros, and which of them are tokens (b, l) bool."""
        rows = np.asarray(index)
        mask = torch.from_numpy(self.inside(rows))
        flat = torch.from_numpy(self._of(self.state, rows)[0])
        flat = flat.view(torch.bfloat16) if flat.dtype == torch.uint16 else flat
        state = torch.zeros((*mask.shape, flat.shape[1]))
        state[mask] = flat.float()
        return state, mask

    def take(self, rows: np.ndarray) -> States:
        """Some texts and nothing else, in their order."""
        state, start = self._of(self.state, rows)
        return States(start, self.cut, state)

    def save(self, path: Path) -> None:
        """Write one .npz file."""
        with open(path, "wb") as stream:
            np.savez(stream, state=self.state, start=self.start, cut=self.cut)

    @classmethod
    def load(cls, path: Path) -> States:
        """Read what `save` wrote."""
        with np.load(path) as content:
            return cls(content["start"], int(content["cut"]), content["state"])
