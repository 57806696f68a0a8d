"""The theory experiment: truths against simulation, statements on small runs, tables, claims, figures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from experiments.support.errors import ConfigError, ResultsError
from experiments.support.results import claims, saved
from experiments.support.results.publish import Target
from experiments.theory import (
    certificates,
    coverage,
    dependence,
    leak,
    libraries,
    quality,
    records,
    sensitivities,
    theorem_1,
    theorem_2,
    theorem_3,
    validity,
)
from experiments.theory.config import (
    CertificatesConfig,
    CoverageConfig,
    LeakConfig,
    QualityConfig,
    SensitivityConfig,
    Theorem1Config,
    Theorem2Config,
    Theorem3Config,
    TheoryConfig,
)
from experiments.theory.laws import known_laws
from experiments.theory.reporting import figures, publication, report
from safeframe.certificates.cases import clopper_pearson_upper

SMALL_1 = Theorem1Config(trials=12, side_2=6)
REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("d", [1, 2, 3, 8])
def test_irwin_hall_against_scipy(d):
    x = np.linspace(0, d, 41)
    np.testing.assert_allclose(known_laws.irwin_hall(x, d), stats.irwinhall(d).cdf(x), atol=1e-9)


@pytest.mark.parametrize("d", [1, 2, 8])
def test_likelihoods_by_simulation(d):
    rng = np.random.default_rng(d)
    for law in (known_laws.three_states(d), known_laws.two_states(d)):
        t = law.project(rng.random((200_000, d)))
        for shift, row in zip(law.shift, law.likelihood, strict=True):
            output = law.logits(t + shift).argmax(-1)
            np.testing.assert_allclose(np.bincount(output, minlength=len(row)) / len(t), row, atol=0.006)


@pytest.mark.parametrize("d", [1, 2, 8])
def test_classifiers_are_lipschitz_with_their_constant(d):
    rng = np.random.default_rng(0)
    law = known_laws.three_states(d)
    a, b = rng.random((2, 5000, d)) * 2
    moved = np.linalg.norm(law.logits(law.project(a)) - law.logits(law.project(b)), axis=1)
    assert (moved <= law.lipschitz * np.linalg.norm(a - b, axis=1) + 1e-12).all()


def test_line_zeta_is_the_limit_of_the_cube():
    rng = np.random.default_rng(1)
    x = rng.random(20)
    assert known_laws.line_zeta(x) == pytest.approx(known_laws.cube_zeta(x[:, None], 20))


def test_theorem_1_holds_at_k_zeta_and_fails_where_it_must():
    table = theorem_1.run(SMALL_1, np.random.default_rng(0))
    assert table[table["factor"] >= 1.0]["failures"].sum() == 0
    likelihood = table[table["statement"] == "likelihood"]
    worst = likelihood[(likelihood["kind"] == "worst") & (likelihood["d"] == 1)].set_index("factor")[
        "failures"
    ]
    assert worst[0.95] == SMALL_1.trials  # nothing less than K zeta will do
    assert (likelihood[likelihood["factor"] == 0.0]["failures"] == SMALL_1.trials).all()
    for _, part in table.groupby(["d", "kind", "statement"]):
        assert part.sort_values("factor")["failures"].is_monotonic_decreasing


def test_measured_radius_is_about_k_zeta_on_a_line_and_less_above():
    table = theorem_1.measured(SMALL_1, np.random.default_rng(0))
    ratio = (table["xi"] / table["k_zeta"]).groupby(table["d"]).mean()
    assert 0.8 < ratio[1] < 1.2
    assert ratio[8] < 0.5


def test_the_leak_makes_plug_in_optimistic_and_leaves_the_bound_valid():
    table = leak.run(LeakConfig(trials=6, sides=[8], ridges=[1e-4], fresh=500), np.random.default_rng(0))
    assert (table["truth"] - table["plug_in"]).mean() > 0.05
    assert (table["conservative"] >= table["truth"] - 1e-3).all()
    assert (table["fresh"] - table["truth"]).abs().max() < 0.1  # fresh cases show the truth


def test_theorem_2_table_falls_and_its_gradient_is_right():
    config = Theorem2Config(cases=200)
    table = theorem_2.run(config, 0)
    for _, part in table.groupby("problem"):
        corner = part[(part["beta"] == 1000.0) & (part["lambda"] == 0.001)]["mean"].item()
        start = part[(part["beta"] == 0.3) & (part["lambda"] == 1.0)]["mean"].item()
        assert corner < 0.02 * start
    errors = theorem_2.gradients(config, 0)
    assert (errors["largest_error"] < 1e-4).all()
    assert (errors["smooth"] > 0.9 * errors["n"]).all()
    steps = theorem_2.path().diff().abs().max()
    assert steps["exact"] > 1.0
    assert steps["beta=1 lambda=1"] < 0.01


@pytest.mark.parametrize("d", [1, 2, 3])
def test_the_ball_has_half_the_volume_and_the_layer_the_volume_it_says(d):
    rng = np.random.default_rng(d)
    points = rng.random((200_000, d))
    assert theorem_3.is_unsafe(points).mean() == pytest.approx(0.5, abs=0.005)
    inside, volume = theorem_3.layer(rng, 200_000, d, 0.1)
    near = np.abs(np.linalg.norm(points - 0.5, axis=1) - theorem_3.radius_of(d)) < 0.1
    assert volume.sum() == pytest.approx(near.mean(), abs=0.006)
    assert ((inside >= 0) & (inside <= 1)).all()


@pytest.mark.parametrize("rule", [theorem_3.Nearest, theorem_3.Quadratic])
def test_errors_near_the_boundary_are_the_errors(rule):
    rng = np.random.default_rng(0)
    points = rng.random((300, 2))
    made = rule(points, theorem_3.is_unsafe(points))
    found = theorem_3.errors(made, rng, 50_000, 2, 0.05)
    fresh = rng.random((200_000, 2))
    unsafe, accepted = theorem_3.is_unsafe(fresh), made.accepts(fresh)
    assert found[0] == pytest.approx(accepted[unsafe].mean(), abs=0.003)
    assert found[1] == pytest.approx((~accepted[~unsafe]).mean(), abs=0.003)


def test_needed_interpolates_and_waits_until_the_error_stays_below():
    curve = pd.DataFrame({"n": [10, 100, 1000, 10_000], "larger": [0.5, 0.05, 0.2, 0.002]})
    found = theorem_3.needed(curve, np.array([0.3, 0.1, 0.02, 1e-4]))
    assert 10 < found[0] < 100
    assert found[1] == pytest.approx(1000 * 10 ** (np.log(2) / np.log(100)))
    assert found[2] == pytest.approx(1000 * 10 ** (np.log(10) / np.log(100)))
    assert np.isnan(found[3])


def test_slopes_recover_a_known_law():
    rng = np.random.default_rng(0)
    rows = [
        {"d": 2, "rule": "nearest", "stream": s, "alpha": a, "n": 3 * a**-2.0 * np.exp(0.1 * rng.normal())}
        for s in range(20)
        for a in np.geomspace(0.1, 0.003, 10)
    ]
    row = theorem_3.slopes(pd.DataFrame(rows)).iloc[0]
    assert row["low"] <= 2.0 <= row["high"]
    assert row["high"] - row["low"] < 0.1


def test_theorem_3_is_near_its_exponent_and_smoother_truth_is_faster():
    config = Theorem3Config(seeds=4, smallest=[5e-3, 1.5e-2, 0.03], cases=[2048, 8192, 32768], queries=4000)
    table = theorem_3.run(config, np.random.default_rng(0))
    found = theorem_3.slopes(theorem_3.cases_needed(table, config)).set_index(["d", "rule"])["slope"]
    assert found[2, "nearest"] == pytest.approx(2.0, abs=0.6)
    assert found[3, "nearest"] == pytest.approx(3.0, abs=0.9)
    assert found[3, "quadratic"] < 2.0


def test_truth_of_the_certificates_by_simulation():
    rng = np.random.default_rng(0)
    margin = rng.normal(size=2_000_000)
    unsafe = rng.random(len(margin)) < certificates.unsafe_probability(margin)
    for tau in (-1.0, 0.0, 1.0):
        accepted = margin < tau
        assert certificates.true_risk(np.array(tau)) == pytest.approx(unsafe[accepted].mean(), rel=0.1)
        masses = certificates.masses_below(np.array([tau]))
        assert sum(masses)[0] == pytest.approx(stats.norm.cdf(tau), abs=1e-6)


def test_counts_have_the_law_they_say():
    rng = np.random.default_rng(1)
    unsafe, safe, every = certificates.draw_counts(rng, 1000, np.array([0.0, 1.0]), 4000)
    below = certificates.masses_below(np.array([0.0, 1.0]))
    np.testing.assert_allclose(unsafe.mean(0) / 1000, below[0], rtol=0.1)
    np.testing.assert_allclose(safe.mean(0) / 1000, below[1], rtol=0.01)
    assert (every >= unsafe[:, 1]).all()
    assert certificates.upper_limits(np.array([3]), np.array([50]), 0.1)[0] == clopper_pearson_upper(
        3, 50, 0.1
    )


def test_certificates_and_their_failures():
    config = CertificatesConfig(trials=300, repeats=2000, cluster_repeats=40, sizes=[1000, 100_000])
    rng = np.random.default_rng(0)
    table = certificates.tightness(config, rng).set_index(["method", "n_t"])
    assert table.loc[("plug-in, xi = 0", 100_000), "below_truth"] > 90
    assert table.loc[("plug-in, xi fixed", 100_000), "median"] > 1.3
    assert table.loc[("Clopper-Pearson", 100_000), "below_truth"] <= stats.binom.ppf(0.999, 300, 0.1)
    chosen = certificates.chosen(config, rng).set_index(["method", "n_t"])
    for name in ("fixed sequence", "Bonferroni"):
        assert chosen.loc[(name, 1000), "broken"] <= stats.binom.ppf(0.999, 300, 0.1)
    assert chosen.loc[("plug-in, xi = 0", 1000), "broken"] > 60
    failures = validity.run(config, rng)
    sure = failures[failures["guaranteed"]]
    assert (sure["failures"] <= stats.binom.ppf(0.9999, sure["repeats"], sure["delta"])).all()
    loose = failures[~failures["guaranteed"]]
    assert (loose["failures"] / loose["repeats"] > loose["delta"]).sum() >= 5
    value, low, _, _ = report.failure_rate_max(failures)
    largest = report.largest_failure_rate(failures)
    assert value < 1.4
    assert low <= largest[0] <= value <= largest[1]  # a largest of several is no less than one of them


def test_cluster_truth_by_simulation():
    rng = np.random.default_rng(0)
    pairs = [validity.clusters(rng) for _ in range(5000)]
    u, a = (sum(pair[i].sum() for pair in pairs) for i in (0, 1))
    assert u / a == pytest.approx(validity.cluster_truth(), rel=0.05)


@pytest.mark.parametrize("name", libraries.NAMES)
def test_libraries_choose_the_same_threshold(name):
    if not libraries.available()[name]:
        pytest.skip(f"{name} is not installed (optional: pip install -r requirements-optional.txt)")
    config = CertificatesConfig(library_repeats=6, library_cases=2000)
    table = libraries.run(config, np.random.default_rng(0))
    mine = table[table["library"].str.lower() == name]
    assert len(mine) >= 1
    for row in mine.to_dict("records"):
        assert row["same"] >= row["repeats"] // 2
        # MAPIE counts an unsafe case too many now and then (stricter), TorchCP one too few (looser)
        assert row["mean_shift"] <= 0 if name == "mapie" else row["mean_shift"] >= 0
        assert row["ratio"] > 1


def test_without_the_libraries_there_is_an_empty_table(monkeypatch):
    monkeypatch.setattr(libraries, "available", lambda: dict.fromkeys(libraries.NAMES, False))
    table = libraries.run(CertificatesConfig(), np.random.default_rng(0))
    assert len(table) == 0
    assert "ratio" in table


def test_coverage_stops_what_is_far_and_not_what_is_near():
    config = CoverageConfig(cases=3000, fresh=3000, steps=150, epsilon=0.02, repeats=20)
    table = coverage.run(config, np.random.default_rng(0), 0)
    own = table[table["features"] == "measurement"].set_index(["kind", "strength"])
    refused = own["refused"] / own["n"]
    assert refused["in distribution", 0.0] < 0.04
    assert refused["shifted", 2.0] > 0.95
    assert refused["adversarial", 0.1] < 0.05
    unsafe = own["unsafe"] / own["accepted"]
    assert unsafe["adversarial", 1.0] > 2 * unsafe["in distribution", 0.0]
    fires = coverage.firing(config, np.random.default_rng(1))
    assert (fires["fires"] / fires["n"] > 0.02).sum() <= stats.binom.ppf(0.999, 20, 0.05)


def test_the_attack_stays_within_its_length_and_lowers_the_margin():
    config = CoverageConfig(cases=2000, steps=100)
    module = coverage.network(config, np.random.default_rng(0), 0)
    y, _ = coverage.draw(np.random.default_rng(1), 200)
    moved = coverage.attack(module, y, 0.3)
    assert np.linalg.norm(moved - y, axis=1).max() <= 0.3 + 1e-5
    import torch

    def margin(x):
        logits = module(torch.from_numpy(x))
        return (logits[:, 1] - logits[:, 0]).detach().numpy()

    assert (margin(moved) < margin(y)).mean() > 0.95


def test_sensitivities_point_where_they_must():
    config = SensitivityConfig(trials=12, n_t=5000)
    table = sensitivities.run(config, np.random.default_rng(0)).set_index(["what", "variant", "at"])["median"]
    assert (
        table["prior", "plug-in", 0.1] > 5 * table["prior", "plug-in", 1.0] > table["prior", "plug-in", 10.0]
    )
    assert table["label noise", "uncorrected", 0.03] < 0.2
    assert table["label noise", "corrected plug-in", 0.01] == pytest.approx(1.0, abs=0.35)
    assert table["hidden unsafe", "uncorrected", 0.5] > 1.5
    assert table["hidden unsafe", "corrected certificate", 0.5] < 1.3
    assert table["xi", "plug-in", 0.3] < 0.5
    many = sensitivities.constraints(config, np.random.default_rng(0)).set_index(["variant", "constraints"])
    assert many.loc[("plug-in", 64), "any_broken"] > 0.95
    assert many.loc[("certificate, Bonferroni", 64), "any_broken"] <= 0.9


def test_episodes_lie_between_one_step_and_the_union_bound():
    config = SensitivityConfig(episodes=1500, horizon=50)
    table = dependence.run(config, np.random.default_rng(0))
    longest = table[table["horizon"] == 50].set_index("rho")
    assert longest.loc[0.0, "per_episode"] == pytest.approx(longest.loc[0.0, "independent"], rel=0.3)
    assert longest.loc[0.999, "per_episode"] < 0.6 * longest.loc[0.0, "per_episode"]
    assert (longest["limit_clusters"] > longest["per_accepted_step"]).all()
    walk = dependence.sequences(np.random.default_rng(1), 4000, 30, 0.9)
    assert walk.std(axis=0) == pytest.approx(1.0, abs=0.06)
    assert np.corrcoef(walk[:, 10], walk[:, 11])[0, 1] == pytest.approx(0.9, abs=0.02)


def test_repetition_costs_zeta():
    table = quality.run(QualityConfig(trials=4, side=10), np.random.default_rng(0))
    mean = table.groupby("kind")[["zeta", "conservative"]].mean()
    assert mean.loc["stratified", "zeta"] < mean.loc["independent", "zeta"] < mean.loc["repeated 2", "zeta"]
    assert (table["conservative"] >= table["truth"]).all()


@pytest.fixture(scope="module")
def finished(smoke) -> Path:
    """A run of the smoke preset."""
    return smoke("theory")


def test_tables_figures_and_claims_of_a_run(finished, tmp_path):
    run = saved.of_directory(finished)
    tables = report.read(run)
    assert set(tables) == set(records.TABLES)
    paths = figures.draw(run, tmp_path / "figures")
    assert len(paths) == 45
    assert all(path.stat().st_size > 0 for path in paths)
    captions = [path.read_text() for path in paths if path.suffix == ".txt"]
    assert all("Seed 0, preset smoke" in text for text in captions)
    for path in report.write(run, tmp_path):
        name = path.name.removeprefix("theory_")
        assert path.read_bytes() == (finished / name).read_bytes()  # rounded once, by the run
    report.record(run, "smoke", tmp_path / "claims.csv", dirty=True)
    ledger = claims.read(tmp_path / "claims.csv").set_index("claim")
    for name in (
        "theory.theorem_1_failures",
        "theory.scaling_exponent_error",
        "certificates.failure_rate_max",
        "coverage.firing_in_distribution",
        "guard.promises.broken_max.conservative",
        "priced.broken_max.certified",
    ):
        assert name in ledger.index
    assert ledger.loc["theory.theorem_1_failures", "value"] == 0
    assert report.load("smoke", root=finished.parents[1]).run == finished.name


@pytest.mark.long
@pytest.mark.usefixtures("rendered_pdf")
def test_raw_files_draw_the_same_bytes(finished, tmp_path):
    root = finished.parents[1]
    saved.write_raw(publication.runs("smoke", {}, root), records.TABLES, tmp_path / "theory", dirty=True)
    for name, place in (("a", root), ("b", tmp_path)):
        publication.publish("smoke", {}, place, Target(tmp_path / name, tmp_path / f"{name}.csv", True))
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.*"))
    assert len(files) > 30 + len(records.TABLES) / 2
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes(), file


def test_a_missing_table_is_named(finished, tmp_path):
    (tmp_path / "DONE").write_text('{"sha256": {}, "code": {}}')
    with pytest.raises(ResultsError, match=r"has no table 'theorem_1'"):
        report.read(saved.of_directory(tmp_path))
    with pytest.raises(ResultsError, match="no finished run"):
        report.load("paper", root=finished.parents[1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: setattr(c.theorem_1, "trials", 0), "theorem_1.trials"),
        (lambda c: setattr(c.theorem_3, "cases", [10, 10]), "three numbers"),
        (lambda c: setattr(c.theorem_3, "smallest", [0.2, 0.2, 0.2]), "must lie below"),
        (lambda c: setattr(c.leak, "ridges", []), "leak.ridges"),
        (lambda c: setattr(c.leak, "sides", [100]), "leak.sides"),
        (lambda c: setattr(c.certificates, "delta", 1.0), "certificates.delta"),
        (lambda c: setattr(c.theorem_1, "side_8", 3), "theorem_1.side_8"),
    ],
)
def test_bad_configuration_is_refused(change, message):
    config = TheoryConfig(experiment="theory")
    config.validate()
    change(config)
    with pytest.raises(ConfigError, match=message):
        config.validate()
