"""Calling a model and a classifier on a batch of measurements, whatever they are and whatever they return.

A row whose action, score or margin is no finite number, or on which model or classifier raises, is marked and
disturbs no other row: the others get what they would get in a batch without it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from safeframe.guard.looked import Looked, joined, marked, owned, spread, without_nan
from safeframe.guard.modules import EvaluationMode, call_module, owner
from safeframe.guard.outputs import actions, bad_rows, estimator_margins, estimator_method, margins
from safeframe.inputs import as_batch, length, rows
from safeframe.tensors import is_tensor, to_numpy
from safeframe.types import SafeframeError, number

OnError = Literal["default", "raise"]
_FEW = 8  # rows that tell whether a model fails on every case


def call(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a model without gradients.

    Args:
        function: any callable. A torch module gets tensors of its type and device, and runs in evaluation and
            inference mode; so does the module of a bound method, on the arguments as they are. Each part is
            then in its own mode again, also where other threads call it.
        *arguments: measurements, and actions.

    Returns:
        What ``function`` returns.
    """
    torch: Any = sys.modules.get("torch")
    if torch is None:  # nothing here can be a module or a tensor of it
        return function(*arguments)
    module = owner(function)
    if module is None:
        with torch.no_grad():
            return function(*arguments)
    held = EvaluationMode(module)
    with held, torch.inference_mode():
        return call_module(module, held.parts, *arguments) if module is function else function(*arguments)


class _CallError(Exception):
    """What a model or a classifier raised."""

    def __init__(self, who: str, cause: Exception) -> None:
        super().__init__(who, cause)
        self.who, self.cause = who, cause


@dataclass(frozen=True, eq=False)
class Callables:
    """A model and a classifier, and how they are called.

    Attributes:
        model: measurement -> actions (n, ...), or (candidates (n, c, ...), score (n, c)). Any callable, torch
            module, or object with ``predict``.
        classifier: measurement -> logits or scores, as :func:`safeframe.guard.outputs.margins` reads them; or
            an estimator with ``decision_function`` or ``predict_proba``.
        classify_actions: call the classifier with the model's actions (or candidates) too.
        unsafe_label: the unsafe class of the classifier: its position among logits, its name among a frame's
            columns, an estimator's ``classes_`` or a transformers model's ``label2id``; with one score per
            case 1 (higher is riskier) or 0 (higher is safer).
        batch_size: so many rows are passed at once; None: all of them.
        on_error: "default" marks bad rows, "raise" stops at the first.

    Raises:
        SafeframeError: on any bad setting.
    """

    model: Any
    classifier: Any
    classify_actions: bool = False
    unsafe_label: Any = 1
    batch_size: int | None = None
    on_error: OnError = "default"

    def __post_init__(self) -> None:
        if not callable(self.model) and not hasattr(self.model, "predict"):
            raise SafeframeError(f"the model is {self.model!r}; expected a callable, or one with predict")
        if not callable(self.classifier):
            if estimator_method(self.classifier) is None:
                raise SafeframeError(
                    f"the classifier is {self.classifier!r}; expected a callable, or an estimator with "
                    "decision_function or predict_proba"
                )
            if self.classify_actions:
                raise SafeframeError(
                    "classify_actions is set, but an estimator takes one argument: pass a function "
                    "(measurement, action) -> score that joins them"
                )
        size = 1.0 if self.batch_size is None else number(self.batch_size, "batch_size")
        if not (size >= 1 and size % 1 == 0):
            raise SafeframeError(
                f"batch_size is {self.batch_size}; expected a positive whole number, or None"
            )
        if self.on_error not in ("default", "raise"):
            raise SafeframeError(f"on_error is {self.on_error!r}; expected 'default' or 'raise'")

    def look(
        self,
        measurement: Any,
        progress: Callable[[int], Any] | None = None,
        where_raised: Callable[[Looked], Any] | None = None,
    ) -> Looked:
        """What model and classifier say of a batch of measurements.

        Args:
            measurement: a batch, as :mod:`safeframe.inputs` describes it.
            progress: called with the number of rows done, after each part of ``batch_size`` rows.
            where_raised: called with what is said of the first few rows where a model raises on the first
                part, before its other rows are tried one by one; it may raise.

        Returns:
            Actions, scores, margins and errors.

        Raises:
            SafeframeError: on outputs of wrong shapes or types; with ``on_error="raise"`` on a row whose
                action, score or margin is NaN or infinite. What model and classifier raise is then passed on.
        """
        seen = as_batch(measurement)
        n = length(seen)
        size = n if self.batch_size is None else int(self.batch_size)
        if n <= size:
            found = self._part(seen, n, 0, where_raised)
            if progress is not None:
                progress(n)
            return found
        parts = []
        for start in range(0, n, size):
            stop = min(start + size, n)
            check = where_raised if start == 0 else None
            parts.append(owned(self._part(rows(seen, slice(start, stop)), stop - start, start, check)))
            if progress is not None:
                progress(stop)
        return joined(parts)

    def _part(
        self, seen: Any, n: int, first: int, where_raised: Callable[[Looked], Any] | None = None
    ) -> Looked:
        """``look`` for rows that are passed at once; ``first`` is the number of the first of them."""
        try:
            return self._evaluate(seen, n, first)
        except _CallError as failed:
            if self.on_error == "raise":
                failed.cause.add_note(f"raised by the {failed.who} for rows {first} to {first + n - 1}")
                raise failed.cause from None
            if where_raised is not None and n > _FEW:
                where_raised(self._part(rows(seen, slice(0, _FEW)), _FEW, first))
            return self._without_failing(seen, n, failed.cause)

    def _without_failing(self, seen: Any, n: int, cause: Exception) -> Looked:
        """``look`` where something was raised: halves, and halves of those that raise, down to single rows.

        The rows that raise nothing are then passed together once more, so that they get what they get without
        the others to the last bit.
        """
        reason = np.full(n, "", object)
        pieces: list[tuple[int, Looked]] = []
        waiting = [(0, n, cause)]
        while waiting:
            start, stop, cause = waiting.pop()
            if stop - start <= 1:
                reason[start:stop] = f"{type(cause).__name__}: {cause}"
                continue
            middle = (start + stop) // 2
            for low, high in ((start, middle), (middle, stop)):
                try:
                    found = self._evaluate(rows(seen, slice(low, high)), high - low, low)
                    pieces.append((low, owned(found)))
                except _CallError as failed:
                    waiting.append((low, high, failed.cause))
        good = np.flatnonzero(reason == "")
        if len(good) == 0:
            return Looked(None, None, np.full(n, np.inf), reason if n else None)
        whole = joined([piece for _, piece in sorted(pieces, key=lambda piece: piece[0])])
        if len(good) == n:  # too many at once, perhaps
            return whole
        if len(pieces) > 1:
            with suppress(_CallError):
                whole = self._evaluate(rows(seen, good), len(good), 0)
        return spread(whole, good, reason)

    def _evaluate(self, seen: Any, n: int, first: int) -> Looked:
        """One call of the model and one of the classifier, checked."""
        model = self.model if callable(self.model) else self.model.predict
        output = _ask("model", model, seen)
        action, score = actions(output, n)
        wanted = (n,) if score is None else score.shape
        if callable(self.classifier):
            given = (seen,)
            if self.classify_actions:
                given = (seen, _usable(output if score is None else output[0], self.classifier))
            answer = _ask("classifier", self.classifier, *given)
            margin = margins(answer, wanted, self.unsafe_label, self._names())
        else:
            method = getattr(self.classifier, estimator_method(self.classifier) or "")
            answer = _ask("classifier", method, _features(seen, n))
            margin = estimator_margins(self.classifier, answer, wanted, self.unsafe_label)
        reason = bad_rows(action, score, margin)
        if reason is None:
            return Looked(action, score, margin if score is None else without_nan(margin))
        if self.on_error == "raise":
            bad = np.flatnonzero(reason != "")
            raise SafeframeError(
                f"{reason[bad[0]]} in row {first + int(bad[0])}"
                + (f" and {len(bad) - 1} more" if bad[1:].size else "")
            )
        return marked(Looked(action, score, margin), reason)

    def _names(self) -> list[Any] | None:
        """Names of the classes of a transformers model in the order of its logits, where a name is given."""
        if not isinstance(self.unsafe_label, str):
            return None
        names = getattr(getattr(self.classifier, "config", None), "id2label", None)
        return [names[key] for key in sorted(names)] if isinstance(names, Mapping) else None


def _ask(who: str, function: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return call(function, *arguments)
    except Exception as error:
        raise _CallError(who, error) from error


def _usable(action: Any, classifier: Any) -> Any:
    """A module's actions for a classifier that is none: it may change them in place."""
    if is_tensor(action) and action.is_inference() and owner(classifier) is None:
        return action.clone()
    return action


def _features(seen: Any, n: int) -> Any:
    """Measurements as estimators take them: arrays and tensors of numbers as (n, d)."""
    if not is_tensor(seen) and not isinstance(seen, np.ndarray):
        return seen
    array = to_numpy(seen)
    return array if array.ndim == 2 or array.dtype.kind not in "biuf" or n == 0 else array.reshape(n, -1)
