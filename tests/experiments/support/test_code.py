"""What makes a cached stage stale: exactly the modules that what it runs imports, found by another reader
too.
"""

from __future__ import annotations

import functools
import inspect
import types

import grimp
import pytest

from experiments.llm import experiment as llm
from experiments.llm.answers.hub import HubSource
from experiments.llm.answers.recorded_source import RecordedSource
from experiments.llm.answers.synthetic import SyntheticSource
from experiments.llm.guard.judge import judge_of
from experiments.production import experiment as production
from experiments.safetygym import experiment as safetygym
from experiments.support.runs import code, syntax
from experiments.theory import experiment as theory


def method(kind: type, name: str):
    """A method as it is bound in a run."""
    found = vars(next(base for base in kind.__mro__ if name in vars(base)))[name]
    function = getattr(found, "func", getattr(found, "fget", found))  # of properties
    return types.MethodType(function, object.__new__(kind))


P, S, L = "experiments.production.", "experiments.safetygym.", "experiments.llm."
DATA = (P + "demand.series", P + "demand.eia", P + "demand.synthetic", P + "config", P + "planning")
STATES = (S + "agents.checkpoints", S + "config", S + "sim.task", S + "states.internal_data")
FIT = (*STATES, S + "guard.classifier", S + "guard.learning", S + "states.backup")
ANSWERS = (
    *(L + f"answers.{name}" for name in ("pools", "recorded_source", "synthetic", "hub", "recorded")),
    *(L + f"guard.{name}" for name in ("judge", "backends", "classifier")),
    L + "config",
    L + "answers.chat",
    L + "answers.prepared",
    L + "assembly",
)
LOOP, TYPES = "safeframe.training.loop", "safeframe.types"
WEIGHTS, TRAINED = "experiments.support.weights", L + "guard.trained_weights"
MODELS = (
    "generation", "language_model", "preference_models", "tokenizer", "model_settings", "runtime",
)  # fmt: skip
STAGES = {
    # stage -> where it begins, and the modules that this definition takes names from
    "production networks": (
        method(production.Experiment, "network"),
        (*DATA, P + "models.networks", P + "models.supervised", WEIGHTS),
    ),
    "production tailored": (
        method(production.Experiment, "tailored"),
        (*DATA, P + "models.networks", P + "guard.tailored", P + "guard.calibration", LOOP, TYPES,
         WEIGHTS),
    ),
    "safetygym data": (
        method(safetygym.Experiment, "data"),
        (*STATES, S + "states.collection", S + "guard.guarding", S + "guard.sent"),
    ),
    "safetygym classifiers": (method(safetygym.Experiment, "fit"), (*FIT, WEIGHTS)),
    "safetygym random paths": (method(safetygym.Experiment, "random_paths"), FIT[:3] + FIT[5:]),
    "language classifiers": (method(llm.Experiment, "classifier"), (*ANSWERS, TRAINED, LOOP)),
    "language tailored": (
        method(llm.Experiment, "tailored"),
        (*ANSWERS, TRAINED, L + "guard.tailored", L + "guard.calibration", LOOP, TYPES),
    ),
    "language margins": (
        method(llm.Experiment, "margin"), (*ANSWERS, TRAINED, L + "margins", L + "answers.features")
    ),
    "language judge": (
        judge_of,
        (*ANSWERS[1:2], ANSWERS[4], ANSWERS[7], L + "guard.minilm", L + "answers.features", LOOP, TYPES),
    ),
    "theorem 3": (
        theory.PARTS["theorem_3"].compute, ("experiments.theory.config", "safeframe.coverage.nearest")
    ),
    "sensitivities": (  # takes RiskCurve from the package safeframe, which offers it on first use
        theory.PARTS["sensitivities"].compute,
        (*("experiments.theory." + x for x in ("config", "certificates")), "safeframe.risk_curve",
         "safeframe.label_noise"),
    ),
    "certificates": (theory.PARTS["tightness"].compute, ("experiments.theory.config",)),
}  # fmt: skip


@functools.cache
def graph() -> grimp.ImportGraph:
    found = grimp.build_graph("experiments", "safeframe", exclude_type_checking_imports=True, cache_dir=None)
    for module in code.MACHINERY:
        found.remove_module(module)
    return found


@functools.cache
def imported(module: str) -> frozenset[str]:
    """A module, what it imports in turn, and the packages on the way, by import-linter's reader."""
    found, todo = set(), [module]
    while todo:
        one = todo.pop()
        if one in found or one not in graph().modules:
            continue
        found.add(one)
        todo += [
            *graph().find_modules_directly_imported_by(one),
            *([one.rpartition(".")[0]] if "." in one else []),
        ]
    return frozenset(found)


@functools.cache
def closure(stage: str) -> code.Closure:
    return code.closure(STAGES[stage][0])


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_goes_stale_with_each_module_that_it_imports_and_with_no_other(stage):
    expected = frozenset().union(*map(imported, (*STAGES[stage][1], *code.ALWAYS)))
    expected = {module for module in expected if module in graph().modules}
    fresh = closure(stage).fingerprint()
    stale = set()
    for module in sorted(graph().modules):
        changed = {module: syntax._source(module) + "\n_CHANGED = 1\n"}
        if closure(stage).fingerprint(changed) != fresh:
            stale.add(module)
    assert stale - expected == set()
    assert expected - stale == set()


@pytest.mark.parametrize(
    ("stage", "module", "line", "other"),
    [
        # changed before without a trace: each of these left a stage "from the cache"
        ("production tailored", P + "guard.calibration", "% 2 == 1", "% 2 == 0"),
        (
            "safetygym data",
            S + "agents.agent",
            "weights / weights.sum(",
            "np.ones_like(weights) / weights.sum(",
        ),
        ("safetygym classifiers", S + "agents.agent", "weights / weights.sum(", "weights / weights.max("),
        ("language tailored", "safeframe.informativeness.halves", "return max(gaps)", "return min(gaps)"),
        ("production networks", "experiments.support.seeding", "SeedSequence", "SeedSequence  # "),
    ],
)
def test_changes_that_once_left_no_trace_are_seen(stage, module, line, other):
    source = syntax._source(module)
    assert line in source
    changed = {module: source.replace(line, other, 1)}
    if other.endswith("# "):  # a comment is no change
        assert closure(stage).fingerprint(changed) == closure(stage).fingerprint()
    else:
        assert closure(stage).fingerprint(changed) != closure(stage).fingerprint()


def test_a_definition_where_a_stage_begins_counts_by_what_it_uses():
    networks, tailored = closure("production networks"), closure("production tailored")
    for line, stale in (
        ("loop.TrainingSettings(", {"production tailored"}),
        ("supervised.fit(", {"production networks"}),
        ('"two_stage_margin", MARGINS,', set()),
        ("network.eval(", {"production networks", "production tailored"}),
        ("tuple(c.order)", {"production networks", "production tailored"}),
    ):
        module = "experiments.production." + ("preparation" if "(" in line else "experiment")
        source = syntax._source(module)
        assert source.count(line) == 1, line
        other = line.replace("(", "(*(), ", 1) if "(" in line else '"two_stage_margin", [],'
        changed = {module: source.replace(line, other, 1)}
        found = {
            name
            for name, one in (("production networks", networks), ("production tailored", tailored))
            if one.fingerprint(changed) != one.fingerprint()
        }
        assert found == stale, line


def test_what_derived_sources_define_counts_for_the_pools_of_that_source():
    synthetic, hub = (code.closure(method(kind, "pool")) for kind in (SyntheticSource, HubSource))
    assert (L + "answers.synthetic", "SyntheticSource.ask") in synthetic.definitions
    assert (L + "answers.hub", "HubSource.ask") in hub.definitions
    assert L + "world.grammar" in synthetic.modules
    assert L + "models.hub_data" in hub.modules - synthetic.modules
    for name in MODELS:
        assert {L + f"models.{name}"} <= synthetic.modules & hub.modules
    assert L + "answers.features" in code.closure(method(RecordedSource, "relevance")).modules


def test_reporting_makes_no_run_stale_and_evaluation_does():
    for module, run in (("production", production.run), ("safetygym", safetygym.run), ("llm", llm.run)):
        found = code.closure(run).modules
        assert not [name for name in found if ".reporting" in name]
        assert [name for name in found if name.startswith(f"experiments.{module}.evaluation")]


def test_comments_docstrings_layout_and_places_of_imports_do_not_count():
    one = (
        '"""Text."""\nfrom experiments.a.b import c\n\n\ndef f(x):\n    """Text."""\n    return c(x)  # so\n'
    )
    two = "from experiments.moved.elsewhere import (\n    c,\n)\ndef f(x): return c( x )\n"
    assert syntax.normalised(one) == syntax.normalised(two)
    assert syntax.normalised(one) != syntax.normalised(two.replace("c( x )", "c(-x)"))
    assert syntax.normalised("import numpy as np") != syntax.normalised("import scipy as np")


def test_another_module_in_the_place_of_one_is_noticed():
    source = syntax._source(S + "guard.sent")
    line = "from experiments.safetygym.guard.guarding import Guard, GuardedPolicy"
    assert line in source
    found = code.closure(safetygym.run)
    other = source.replace(line, line.replace("guard.guarding", "guard.calibration"))
    assert found.fingerprint({S + "guard.sent": other}) != found.fingerprint()


def test_what_a_tailored_network_starts_from_is_in_its_key():
    """The warm-up's code is not its own: the weights that came out of it count."""
    for function, names in (
        (production.Experiment.tailored, ('"warm": digest_of(', '"predicted": predicted')),
        (llm.Experiment.tailored, ('"warm": trained_weights.digest(', '"margin": margin')),
    ):
        source = inspect.getsource(function)
        assert all(name in source for name in names)


def test_what_has_no_source_is_refused():
    with pytest.raises(TypeError, match="cannot read the code of 3: give a function"):
        code.fingerprint(3)
