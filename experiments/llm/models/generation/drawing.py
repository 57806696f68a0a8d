"""Drawing the next token: the top-k tokens, the top-p nucleus among them, and one draw.

Small vocabularies draw by the Gumbel-max rule. It needs a random number for every token, which for a real
vocabulary (50,000 to 260,000) costs as much as a small model itself; there one number for each sequence is
enough, by the inverse of the distribution function. That is read in two steps, over the sums of `BLOCK`
tokens and within the one that was met, on one copy of the logits: running sums and fresh memory for all
tokens cost more than the exponentials.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

SMALL = 4096
"""Largest vocabulary that draws by the Gumbel-max rule."""
BLOCK = 256
_BELOW_ONE = 1 - 2.0**-20


def nucleus(logits: Tensor, top_p: float) -> Tensor:
    """Logits with everything outside the smallest set of probability >= top_p at -inf.

    Source: Holtzman et al. (2020).
    """
    if top_p >= 1:
        return logits
    ordered, order = logits.sort(dim=-1, descending=True)
    before = ordered.softmax(-1).cumsum(-1) - ordered.softmax(-1)
    return logits.masked_fill(
        torch.zeros_like(logits, dtype=torch.bool).scatter(-1, order, before >= top_p), -torch.inf
    )


def drawn(
    logits: Tensor,
    top_k: int,
    top_p: float,
    generator: torch.Generator,
    small: int = SMALL,
    temperature: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """A token for each row of logits (b, v), and its log-probability, each (b,).

    The nucleus is taken of the top-k tokens, which is the same as of all where it lies within them, and
    sorts k numbers instead of v; nothing else is computed of all v either.
    """
    place = None
    if 0 < top_k < logits.shape[-1]:
        logits, place = logits.topk(top_k, dim=-1)
    if logits.shape[-1] > small:
        chosen, score = _by_inverse(logits, top_p, generator, temperature)
    else:
        log_p = nucleus(logits.float() / temperature, top_p).log_softmax(-1)
        noise = torch.rand(log_p.shape, generator=generator, device=generator.device).to(log_p.device)
        chosen = (log_p - torch.log(-torch.log(noise.clamp_min_(1e-30)))).argmax(-1)
        score = log_p.gather(-1, chosen[:, None])[:, 0]
    return chosen if place is None else place.gather(-1, chosen[:, None])[:, 0], score


def _by_inverse(
    logits: Tensor, top_p: float, generator: torch.Generator, temperature: float
) -> tuple[Tensor, Tensor]:
    """As `drawn`, from all of the logits, by one random number a row."""
    mass = logits.to(torch.float32, copy=True)
    if temperature != 1:
        mass /= temperature
    mass = nucleus(mass, top_p)
    mass -= mass.amax(dim=-1, keepdim=True)
    mass.exp_()
    over = -mass.shape[-1] % BLOCK
    blocks = (functional.pad(mass, (0, over)) if over else mass).unflatten(-1, (-1, BLOCK))
    below = blocks.sum(-1).cumsum(-1)  # (b, blocks)
    total = below[:, -1:]
    level = torch.rand((len(mass), 1), generator=generator, device=generator.device).to(mass.device)
    level = level.clamp_max(_BELOW_ONE) * total
    block = torch.searchsorted(below, level, right=True).clamp_max(below.shape[-1] - 1)  # (b, 1)
    before = torch.where(block > 0, below.gather(-1, (block - 1).clamp_min(0)), 0.0)
    inner = blocks.gather(1, block[..., None].expand(-1, 1, BLOCK))[:, 0]  # (b, BLOCK)
    last = BLOCK - 1 - (inner > 0).flip(-1).int().argmax(-1, keepdim=True)  # rounding never leads past it
    place = torch.minimum(torch.searchsorted(inner.cumsum(-1), level - before, right=True), last)
    chosen = block * BLOCK + place
    score = (mass.gather(-1, chosen) / total).log()
    return chosen[:, 0], score[:, 0]
