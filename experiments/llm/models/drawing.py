"""Drawing the next token: the top-k tokens, the top-p nucleus among them, and one draw.

Small vocabularies draw by the Gumbel-max rule. It needs a random number for every token, which for a real
vocabulary (50,000 to 260,000) costs as much as a small model itself; there one number for each sequence is
enough, by the inverse of the distribution function.
"""

from __future__ import annotations

import torch
from torch import Tensor

SMALL = 4096
"""Largest vocabulary that draws by the Gumbel-max rule."""
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
    logits = logits.float() / temperature
    log_p = nucleus(logits, top_p).log_softmax(-1)
    if log_p.shape[-1] <= small:
        noise = torch.rand(log_p.shape, generator=generator, device=generator.device).to(log_p.device)
        chosen = (log_p - torch.log(-torch.log(noise.clamp_min_(1e-30)))).argmax(-1)
    else:
        below = log_p.exp().cumsum(-1)
        level = torch.rand((len(log_p), 1), generator=generator, device=generator.device).to(log_p.device)
        level = level.clamp_max(_BELOW_ONE) * below[:, -1:]
        chosen = torch.searchsorted(below, level, right=True)[:, 0].clamp_max(log_p.shape[-1] - 1)
    score = log_p.gather(-1, chosen[:, None])[:, 0]
    return chosen if place is None else place.gather(-1, chosen[:, None])[:, 0], score
