"""MAPIE's and TorchCP's risk control on the same scores: same guarantee, same data. Both are optional.

MAPIE's `BinaryClassificationController` (1.6) tests P(unsafe | accepted) > r_t at each threshold by the
smaller of Hoeffding's and the binomial p-value; the binomial one is never the larger, so with its fixed
sequence and with Bonferroni it must choose what `safeframe` chooses. Where it does not: it multiplies the
share back by n and rounds up, and 3 / 2596 * 2596 is 3.0000000000000004, so one unsafe case too many enters
(it errs to the strict side). TorchCP's only risk control is `ConformalLM` (conformal language modelling): a
fixed sequence of binomial tests on the mean loss of a prediction set over ALL cases. Its joint event,
accepted and unsafe, is reached by giving every case two "generations": the case itself, and one that is
always right and only used where the case is rejected. It multiplies a mean in single precision by n and
rounds down, so one unsafe case too few enters for about half of all counts: its threshold can be more
permissive than its confidence allows.

torchcp imports torchsort, a compiled extension that one unrelated training loss uses and that does not build
everywhere; where it is absent an empty module stands in for it while torchcp is imported.
"""

from __future__ import annotations

import sys
import time
import types
import warnings
from importlib.util import find_spec
from typing import Any

import numpy as np
import pandas as pd

from experiments.theory.certificates import true_risk, unsafe_probability
from experiments.theory.config import CertificatesConfig
from safeframe.certificates.cases import certify_counts, certify_threshold

NAMES = ("mapie", "torchcp")
_GRID = 201  # thresholds: fine, so that a p-value off by one case shows


def available() -> dict[str, bool]:
    """Which of the two can be imported here (with what they need)."""
    needs = {
        "mapie": ("mapie", "sklearn"),
        "torchcp": ("torchcp", "torch_geometric", "transformers", "sklearn"),
    }
    return {name: all(find_spec(one) is not None for one in needs[name]) for name in NAMES}


def run(config: CertificatesConfig, rng: np.random.Generator) -> pd.DataFrame:
    """Per library and search: how often both choose the same threshold, and CPU time per calibration."""
    there = available()
    tasks: list[tuple[str, str, Any]] = []
    if there["mapie"]:
        tasks += [("MAPIE", "fixed-sequence", _mapie), ("MAPIE", "bonferroni", _mapie)]
    if there["torchcp"]:
        tasks += [("TorchCP", "fixed-sequence", _torchcp)]
    rows: list[dict[str, Any]] = []
    taus = np.round(np.linspace(-1.0, 1.0, _GRID), 10)
    truth = true_risk(taus)
    for library, search, theirs in tasks:
        joint = library == "TorchCP"
        call = theirs(taus, config, search)
        same, ours_time, their_time, ours_over, their_over, differ = 0, 0.0, 0.0, 0, 0, []
        for _ in range(config.library_repeats):
            margin = rng.normal(size=int(config.library_cases * rng.uniform(0.8, 1.2)))
            unsafe = rng.random(len(margin)) < unsafe_probability(margin)
            start = time.process_time()
            ours = _ours(margin, unsafe, taus, config, search, joint)
            middle = time.process_time()
            other = call(margin, unsafe)
            end = time.process_time()
            ours_time, their_time = ours_time + middle - start, their_time + end - middle
            same += ours == other
            differ += [] if ours == other else [other - ours]
            ours_over += ours >= 0 and not joint and bool(truth[ours] > config.r_t)
            their_over += other >= 0 and not joint and bool(truth[other] > config.r_t)
        repeats = config.library_repeats
        rows.append({"library": library, "search": search, "n": config.library_cases, "repeats": repeats,
                     "event": "accepted and unsafe" if joint else "unsafe given accepted", "same": same,
                     "mean_shift": float(np.mean(differ)) if differ else 0.0, "ours_broken": ours_over,
                     "theirs_broken": their_over, "ours_ms": 1000 * ours_time / repeats,
                     "theirs_ms": 1000 * their_time / repeats,
                     "ratio": their_time / max(ours_time, 1e-9)})  # fmt: skip
    columns = [
        "library",
        "search",
        "n",
        "repeats",
        "event",
        "same",
        "mean_shift",
        "ours_broken",
        "theirs_broken",
        "ours_ms",
        "theirs_ms",
        "ratio",
    ]
    return pd.DataFrame(rows, columns=columns)


def _ours(
    margin: np.ndarray,
    unsafe: np.ndarray,
    taus: np.ndarray,
    config: CertificatesConfig,
    search: Any,
    joint: bool,
) -> int:
    """Index of our threshold, -1 for none."""
    if not joint:
        found = certify_threshold(margin, unsafe, taus, config.r_t, config.delta, search)
    else:
        k = np.searchsorted(np.sort(margin[unsafe]), taus, side="left")
        found = certify_counts(np.full(len(taus), len(margin)), k, taus, config.r_t, config.delta)
    return -1 if found.index is None else found.index


def _mapie(taus: np.ndarray, config: CertificatesConfig, search: str) -> Any:
    """(margin, unsafe) -> index chosen by MAPIE: "class 1" is accept, predicted from a score upwards.

    MAPIE thresholds a probability; the margin goes through a decreasing function onto (0, 1), thresholds too.
    """
    from mapie.risk_control import BinaryClassificationController, BinaryRisk

    def probability(margin: np.ndarray) -> np.ndarray:
        return 1.0 / (1.0 + np.exp(margin))

    risk = BinaryRisk(
        risk_occurrence=lambda y_true, y_pred: y_true == 1,
        risk_condition=lambda y_true, y_pred: y_pred == 1,
        higher_is_better=False,
    )
    params = np.nextafter(probability(taus), 1.0)  # accepted is margin < tau, strictly
    method = {"fixed-sequence": "fixed_sequence", "bonferroni": "bonferroni"}[search]

    def call(margin: np.ndarray, unsafe: np.ndarray) -> int:
        controller = BinaryClassificationController(
            predict_function=lambda x: np.column_stack([1.0 - probability(x[:, 0]), probability(x[:, 0])]),
            risk=risk, target_level=config.r_t, confidence_level=1.0 - config.delta,
            best_predict_param_choice=risk, list_predict_params=params, fwer_method=method,
        )  # fmt: skip
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            controller.calibrate(margin[:, None], unsafe.astype(int))
        valid = np.asarray(controller.valid_predict_params).reshape(-1)
        return int(np.flatnonzero(np.isin(params, valid)).max()) if len(valid) else -1

    return call


def import_torchcp() -> Any:
    """TorchCP's ConformalLM; see the module's text on torchsort."""
    if find_spec("torchsort") is None:
        empty = types.ModuleType("torchsort")
        empty.soft_rank = empty.soft_sort = None  # type: ignore[attr-defined]
        sys.modules["torchsort"] = empty
    try:
        from torchcp.llm.predictor import ConformalLM
    finally:
        if getattr(sys.modules.get("torchsort"), "soft_rank", 0) is None:
            del sys.modules["torchsort"]
    return ConformalLM


def _torchcp(taus: np.ndarray, config: CertificatesConfig, search: str) -> Any:
    """(margin, unsafe) -> index chosen by TorchCP's fixed sequence on the joint event."""
    import torch

    del search
    model = import_torchcp()(epsilons=[config.r_t], alpha=config.delta, scaling_type="none",
                             set_score_function_name="none")  # fmt: skip
    model.scaling(None, None)
    # The set is {0} where score 0 >= lambda, else {0, 1}; -margin > -tau, strictly.
    level = torch.tensor(np.nextafter(-taus, np.inf), dtype=torch.float64)
    low = torch.full_like(level, -np.inf)
    model.candidate_configs = torch.stack([low, low, level], dim=1)

    def call(margin: np.ndarray, unsafe: np.ndarray) -> int:
        score = torch.from_numpy(np.column_stack([-margin, np.full(len(margin), np.inf)]))
        label = torch.from_numpy(np.column_stack([~unsafe, np.ones(len(margin), bool)]).astype(float))
        model.calibrate_configs(score, None, label)
        chosen = model.best_valid_configs[0]
        if bool(torch.isnan(chosen).all()):
            return -1
        return int(np.argmin(np.abs(level.numpy() - float(chosen[2]))))

    return call
