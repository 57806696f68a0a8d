"""One root seed, and from it an independent stream for every component by its name."""

from __future__ import annotations

import hashlib

import numpy as np


class Seeds:
    """Random streams of a run; a name's stream depends on the root seed and that name, not on order of use.

    The name is hashed (SHA-256, the same in every process) into the spawn key of a
    `numpy.random.SeedSequence`.

    Args:
        root: the run's seed, >= 0.

    Raises:
        ValueError: for a negative seed.
    """

    def __init__(self, root: int):
        if root < 0:
            raise ValueError(f"seed={root} must be at least 0")
        self.root = int(root)

    def sequence(self, *name: str | int) -> np.random.SeedSequence:
        """The `SeedSequence` of a component, for example `sequence("data")` or `sequence("fold", 3)`."""
        digest = hashlib.sha256("/".join(str(part) for part in name).encode("utf-8")).digest()
        key = tuple(int.from_bytes(digest[i : i + 4], "little") for i in range(0, 16, 4))
        return np.random.SeedSequence(self.root, spawn_key=key)

    def generator(self, *name: str | int) -> np.random.Generator:
        """A NumPy generator for a component; asked for again, it starts again."""
        return np.random.default_rng(self.sequence(*name))

    def integer(self, *name: str | int) -> int:
        """A seed in [0, 2^31) for a library that takes an integer."""
        return int(self.sequence(*name).generate_state(1)[0] >> 1)

    def torch(self, *name: str | int):
        """A CPU `torch.Generator` for a component."""
        import torch

        return torch.Generator().manual_seed(self.integer(*name))

    def set_global(self, *name: str | int) -> None:
        """Seed the global streams of random, NumPy and torch, for code that takes no generator."""
        import random

        import torch

        seed = self.integer(*(name or ("global",)))
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        torch.manual_seed(seed)


def limit_threads(threads: int) -> None:
    """Let torch use at most `threads` threads (the number of them can change the last bits of a result)."""
    import torch

    torch.set_num_threads(threads)
