"""What models and classifiers return, read as actions, scores and margins.

A margin is larger where a case is riskier, and any monotone number will do. From logits it is
f_unsafe - log sum exp of the others: f_1 - f_0 with two classes. From probabilities it is the log-odds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from safeframe.tensors import is_tensor, to_numpy
from safeframe.types import FloatArray, SafeframeError

_ALMOST_ZERO = -746.0  # the log of a probability of 0: below that of the smallest positive number, -744.44


def margins(
    output: Any, wanted: tuple[int, ...], unsafe_label: Any = 1, names: Sequence[Any] | None = None
) -> FloatArray:
    """Margins from what a classifier returned.

    Args:
        output: logits (*wanted, k) of k >= 2 classes; or one score or probability (*wanted,) or (*wanted, 1),
            higher where riskier; an array, tensor, frame, series or list; or an object (or mapping) that
            holds it as ``logits``.
        wanted: (n,), or (n, c) with candidates.
        unsafe_label: the unsafe class, by its name or else its position; 0 with a score: higher is safer.
        names: of the classes in their order; default: a frame's columns.

    Returns:
        Margins, of shape ``wanted`` and of the output's floating type: at least float32, at most float64. A
            row of NaN or infinite logits gives a margin that is not finite.

    Raises:
        SafeframeError: on other shapes or types, a class that is not there, and scores (n, 2) for two
            candidates, which could be logits (n, 2).
    """
    if not (type(output) is np.ndarray or is_tensor(output)):
        output = _logits_of(output)
        if names is None and hasattr(output, "columns"):
            names = list(output.columns)
    array = _floating(to_numpy(output), "the classifier's output")
    shape = array.shape
    if shape == wanted:
        if len(wanted) == 2 and wanted[1] == 2:
            raise SafeframeError(
                f"the classifier's output has shape {shape}, which could be logits of each measurement or "
                f"scores of two candidates; return ({wanted[0]}, 2, 1) scores or ({wanted[0]}, 2, 2) logits"
            )
        return _signed(array, unsafe_label)
    if len(shape) != len(wanted) + 1 or shape[:-1] != wanted or shape[-1] == 0:
        raise SafeframeError(
            f"the classifier's output has shape {shape}; expected logits {(*wanted, 2)} or scores {wanted}"
        )
    if shape[-1] == 1:
        return _signed(array[..., 0], unsafe_label)
    unsafe = position(unsafe_label, shape[-1], names)
    with np.errstate(invalid="ignore", over="ignore"):
        if shape[-1] == 2:
            return array[..., unsafe] - array[..., 1 - unsafe]
        others = np.delete(array, unsafe, axis=-1)
        top = others.max(axis=-1, keepdims=True)
        rest = np.log(np.exp(others - top).sum(axis=-1)) + top[..., 0]
        return array[..., unsafe] - rest


def _logits_of(output: Any) -> Any:
    if hasattr(output, "logits"):
        return output.logits
    if isinstance(output, Mapping):
        if "logits" not in output:
            raise SafeframeError(f"the classifier returned a mapping of {list(output)}; expected 'logits'")
        return output["logits"]
    return output


def _signed(score: FloatArray, unsafe_label: Any) -> FloatArray:
    if unsafe_label == 1:
        return score
    if unsafe_label == 0:
        return -score
    raise SafeframeError(
        f"unsafe_label is {unsafe_label!r}, but the classifier returns one score per case; expected 1 "
        "(higher is riskier) or 0 (higher is safer)"
    )


def position(unsafe_label: Any, classes: int, names: Sequence[Any] | None = None) -> int:
    """Which column is the unsafe class.

    Args:
        unsafe_label: its name among ``names``, or its position.
        classes: number of columns.
        names: of the columns, or None where they have none; where they are numbers, the name counts.

    Returns:
        The column, 0 or above.

    Raises:
        SafeframeError: where there is no such class, naming those that there are.
    """
    if names is not None and len(names) == classes and unsafe_label in names:
        return list(names).index(unsafe_label)
    numbered = names is not None and any(isinstance(name, (int, np.integer)) for name in names)
    if isinstance(unsafe_label, (int, np.integer)) and not numbered and 0 <= unsafe_label < classes:
        return int(unsafe_label)
    raise SafeframeError(
        f"unsafe_label {unsafe_label!r} is none of the classifier's classes "
        f"{list(range(classes)) if names is None else list(names)}"
    )


def log_odds(probability: FloatArray, unsafe: int) -> FloatArray:
    """Log-odds of the unsafe class, finite also where a probability is 0 or 1.

    Args:
        probability: (n, k) probabilities of k >= 2 classes.
        unsafe: the column of the unsafe class.

    Returns:
        (n,) float64 log p(unsafe) - log p(any other), in the order of the odds; NaN where both are 0, or one
            is negative.
    """
    chance = probability.astype(np.float64)
    ours, theirs = chance[:, unsafe], np.delete(chance, unsafe, axis=1).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.maximum(np.log(ours), _ALMOST_ZERO) - np.maximum(np.log(theirs), _ALMOST_ZERO)
    return np.where((ours == 0) & (theirs == 0), np.nan, found)


def estimator_method(estimator: Any) -> str | None:
    """By which method an estimator of scikit-learn, or one with its methods, says how risky cases are.

    Args:
        estimator: any object.

    Returns:
        "decision_function" where there is one and two classes at most, else "predict_proba", else whichever
            there is; None where there is neither.
    """
    ready = [name for name in ("decision_function", "predict_proba") if hasattr(estimator, name)]
    if len(ready) == 2 and len(getattr(estimator, "classes_", ())) != 2:
        return "predict_proba"
    return ready[0] if ready else None


def estimator_margins(estimator: Any, output: Any, wanted: tuple[int, ...], unsafe_label: Any) -> FloatArray:
    """Margins from what an estimator returned.

    Args:
        estimator: has the method that :func:`estimator_method` names, and ``classes_``.
        output: of that method.
        wanted: (n,).
        unsafe_label: one of the ``classes_``.

    Returns:
        (n,) margins: decision values, or log-odds of the unsafe class (float64).

    Raises:
        SafeframeError: where the unsafe class is none of at least two classes, or on outputs of other shapes.
    """
    name = type(estimator).__name__
    if not hasattr(estimator, "classes_"):
        raise SafeframeError(
            f"{name} has no classes_; pass a function measurement -> score, higher = riskier"
        )
    classes = np.asarray(estimator.classes_).tolist()
    if len(classes) < 2 or unsafe_label not in classes:
        raise SafeframeError(
            f"unsafe_label is {unsafe_label!r}, but the classes of {name} are {classes}; expected two "
            "classes or more, one of them the unsafe one"
        )
    unsafe = classes.index(unsafe_label)
    if estimator_method(estimator) == "decision_function":
        shape = getattr(output, "shape", ())
        of_one = len(classes) == 2 and len(shape) == 1
        return margins(output, wanted, unsafe if of_one else unsafe_label, classes)
    chance = _floating(to_numpy(output), f"predict_proba of {name}")
    if chance.shape != (*wanted, len(classes)):
        raise SafeframeError(
            f"predict_proba of {name} has shape {chance.shape}; expected {(*wanted, len(classes))}"
        )
    return log_odds(chance, unsafe)


def actions(output: Any, n: int) -> tuple[np.ndarray, FloatArray | None]:
    """Actions, or candidates with their scores, from what a model returned.

    Args:
        output: actions (n, ...); or a tuple (candidates (n, c, ...), score (n, c)).
        n: number of measurements.

    Returns:
        Actions and None; or candidates and scores, as float64.

    Raises:
        SafeframeError: on other shapes, and tuples of another length.
    """
    score = None
    if isinstance(output, tuple):
        if len(output) != 2:
            raise SafeframeError(
                f"the model returned {len(output)} values; expected actions, or (candidates, score)"
            )
        output, given = output
        score = _floating(to_numpy(given), "the model's score").astype(np.float64, copy=False)
    try:
        action = to_numpy(output)
    except ValueError as error:
        raise SafeframeError(f"the model's actions are no array: {error}") from error
    wanted = (n,) if score is None else (n, *action.shape[1:2])
    missing = score is not None and len(wanted) < 2
    if missing or action.shape[: len(wanted)] != wanted or (score is not None and score.shape != wanted):
        raise SafeframeError(
            f"the model's actions have shape {action.shape}"
            + ("" if score is None else f" and its scores {score.shape}")
            + f"; expected them to begin with {(n,) if score is None else (n, 'candidates')}"
        )
    return action, score


NO_NUMBER = {
    "action": "the model's action is missing, NaN or infinite",
    "score": "the model's score is NaN or +inf (-inf marks an absent candidate)",
    "margin": "the classifier's margin is NaN or infinite",
}


def bad_rows(action: np.ndarray, score: FloatArray | None, margin: FloatArray) -> np.ndarray | None:
    """What is wrong with each row; candidates that are absent may be anything.

    Args:
        action: (n, ...), or (n, c, ...) with scores.
        score: (n, c), or None.
        margin: (n,), or (n, c) with scores.

    Returns:
        (n,) objects, reasons or "" where nothing is wrong; None where no row is wrong.
    """
    fine = _is_number(action)
    if fine is None and np.isfinite(margin).all() and (score is None or (score < np.inf).all()):
        return None  # a comparison with NaN is false
    n, lead = len(margin), margin.ndim
    present = np.ones(margin.shape, bool) if score is None else score != -np.inf
    faults = {"margin": ~np.isfinite(margin) & present}
    if score is not None:
        faults["score"] = ~(score < np.inf)
    if fine is not None:
        faults["action"] = ~fine.reshape(*fine.shape[:lead], -1).all(axis=-1) & present
    reason = np.full(n, "", object)
    for name, fault in faults.items():  # what the model gave comes last: it is said where several are wrong
        reason[fault.reshape(n, -1).any(axis=1)] = NO_NUMBER[name]
    return reason if (reason != "").any() else None


def _is_number(action: np.ndarray) -> np.ndarray | None:
    """Where an action is a finite number or some other value; None where it is everywhere."""
    kind = action.dtype.kind
    if kind in "fc":
        fine = np.isfinite(action)
    elif kind in "mM":
        fine = ~np.isnat(action)
    elif kind == "O":
        flat = [_is_value(item) for item in action.reshape(-1).tolist()]
        fine = np.array(flat, bool).reshape(action.shape)
    else:
        return None
    return None if fine.all() else fine


def _is_value(item: Any) -> bool:
    if isinstance(item, (float, np.floating)):
        return bool(np.isfinite(item))
    return item is not None and type(item).__name__ not in ("NAType", "NaTType")


def _floating(array: np.ndarray, what: str) -> FloatArray:
    """An array as float32 or float64."""
    kind = array.dtype
    if kind.char in "df" and kind.isnative:  # float64 and float32
        return array
    if kind == np.float16:
        return array.astype(np.float32)
    if kind.kind not in "biufO":
        raise SafeframeError(f"{what} has type {kind}; expected numbers")
    try:
        return array.astype(np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise SafeframeError(f"{what} holds objects that are no numbers: {error}") from error
