"""Bad input to the Safety Gym experiment as a user types it: one clear message, nothing half-written."""

import json

import numpy as np
import pytest
from front_door import is_one_line, is_refused
from safetensors import safe_open
from safetensors.numpy import save_file
from safetygym_small import CAR, POINT, safetygym, untrained

from experiments.safetygym import references
from experiments.safetygym.agents.checkpoints import save_agent
from experiments.safetygym.config import THRESHOLDS, SafetyGymConfig
from experiments.safetygym.guard import guard_stages
from experiments.safetygym.sim.vector import SafetyGymVector
from experiments.safetygym.states import collection
from experiments.support.config import identity, run_id
from experiments.support.errors import ConfigError

CONFIGURATIONS = {
    "unknown task": (
        ["task=Safexp-PointButton1-v0"],
        "task='Safexp-PointButton1-v0' is not one of: Safexp-Po",
    ),
    "vases that cost are fixed": (
        ["task=Safexp-PointGoal2-v0", "evaluation.vase=fixed"],
        "evaluation.vase=fixed: vases cost in Safexp-PointGoal2-v0, so they have to be touched",
    ),
    "agent of another level": (
        ["task=Safexp-PointGoal2-v0", "agent.baselines=[ppo_barrier]"],
        "no reference agent 'ppo_barrier' for goal2_point",
    ),
    "threshold 0": (["r_t=0"], "r_t is 0.0; a probability threshold must lie in (0, 1]"),
    "threshold 2": (["r_t=2"], "r_t is 2.0; a probability threshold must lie in (0, 1]"),
    "threshold NaN": (["r_t=nan"], "r_t is nan"),
    "thresholds": (["evaluation.thresholds=[1e-3,0]"], "evaluation.thresholds is 0.0"),
    "unknown key": (["learning.stepz=1"], "stepz"),
    "label": (["internal_test.label=true"], "internal_test.label"),
    "label and mode": (["internal_test.label=logged"], "give evaluation.calibrate=accepted"),
    "mode": (["evaluation.calibrate=best"], "evaluation.calibrate='best' is not one of: selected, accepted"),
    "model": (["classifier.kind=forest"], "classifier.kind='forest' is not one of: path, logits"),
    "widths": (["classifier.hidden=[]"], "name at least one width"),
    "radius": (["evaluation.xi=-1"], "evaluation.xi"),
    "radius NaN": (["evaluation.xi=nan"], "evaluation.xi"),
    "radius infinite": (["evaluation.xi=inf"], "evaluation.xi"),
    "radius is a word": (["evaluation.xi=abc"], "must be 'paper', 'measured' or a number >= 0"),
    "no cases": (["internal_test.n_t=0"], "internal_test.n_t=0 is out of range: it must be at least 100"),
    "less than an episode": (["evaluation.steps=10"], "evaluation.steps=10 is out of range"),
    "agent": (["agent.name=nobody"], "no reference agent 'nobody' for point"),
    "baseline": (["agent.baselines=[nobody]"], "no reference agent 'nobody' for point"),
    "training": (
        ["agents.training_seed=97", "agent.baselines=[]"],
        "agents.training_seed=97: 'ours' of point was trained with 0",
    ),
    "training of a baseline": (
        ["agents.training_seed=97", "agent.baselines=[ppo_barrier]"],
        "reference_training agent=point_ppo_barrier training_seed=97 out=DIR",
    ),
    "training below the first": (["agents.training_seed=-1"], "agents.training_seed=-1 is out of range"),
    "training and path": (
        ["agents.training_seed=1", "agent.path=mine.safetensors"],
        "agent.path='mine.safetensors' is none of them: give one of the two",
    ),
}


@pytest.mark.parametrize("kind", list(CONFIGURATIONS))
def test_a_wrong_configuration_writes_nothing(capsys, tmp_path, kind):
    overrides, message = CONFIGURATIONS[kind]
    code = safetygym(f"output={tmp_path / 'runs'}", *overrides)
    out, err = capsys.readouterr()
    is_refused(code, out, err, message)
    assert list(tmp_path.iterdir()) == []


def changed(path, **tensors) -> None:
    """Rewrite an agent's file with other tensors, without a checksum, as older versions wrote them."""
    with safe_open(path, "numpy") as file:
        content = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        about = file.metadata()["agent"]
    save_file(content | tensors, path, {"agent": about})


def described(path, **values) -> None:
    """Rewrite an agent's file with another description of itself."""
    with safe_open(path, "numpy") as file:
        content = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        about = json.loads(file.metadata()["agent"])
    save_file(content, path, {"agent": json.dumps(about | values)})


AGENTS = {
    "missing": (lambda path: path.unlink(), "agent.safetensors"),
    "damaged": (lambda path: path.write_bytes(path.read_bytes()[:500]), "is damaged or no agent file"),
    "of the other task": (
        lambda path: save_agent(untrained(CAR), path),
        f"is an agent of {CAR}; one of {POINT}",
    ),
    "of another shape": (
        lambda path: described(path, observation_size=72, inputs=72),
        "acts on 72 observations; the task has 60",
    ),
    "whose weights do not fit": (lambda path: described(path, inputs=61), "do not fit its own description"),
    "without candidates": (
        lambda path: changed(path, candidates=np.empty((0, 2))),
        "candidates have shape (0, 2); they must be finite actions of shape (k, 2) with k >= 1",
    ),
    "with candidates that are not finite": (
        lambda path: changed(path, candidates=np.full((15, 2), np.nan)),
        "must be finite",
    ),
}


@pytest.mark.parametrize("kind", list(AGENTS))
def test_an_agents_file_that_does_not_fit_is_refused_before_anything_is_collected(capsys, tmp_path, kind):
    damage, message = AGENTS[kind]
    path = tmp_path / "agent.safetensors"
    save_agent(untrained(), path)
    damage(path)
    code = safetygym(f"output={tmp_path / 'runs'}", f"agent.path={path}", "agent.baselines=[]")
    err = capsys.readouterr().err
    assert code in (1, 2), err
    is_one_line(err, message)
    assert not (tmp_path / "runs" / "cache").exists()


def test_physics_that_is_not_finite_ends_the_run_with_a_message(capsys, tmp_path, monkeypatch):
    class Broken(SafetyGymVector):
        def step(self, actions):
            self.state.robot[3, 1] = np.nan
            return super().step(actions)

    monkeypatch.setattr(collection, "SafetyGymVector", Broken)
    path = tmp_path / "agent.safetensors"
    save_agent(untrained(), path)
    code = safetygym(f"output={tmp_path / 'runs'}", f"agent.path={path}", "agent.baselines=[]")
    err = capsys.readouterr().err
    assert code == 1, err
    is_one_line(err, "is not finite")
    assert not list((tmp_path / "runs").rglob("data.json"))


def test_data_of_another_task_are_refused(capsys, tmp_path, monkeypatch):
    """Found where the run's own data belong; nothing is collected on top of them."""
    path = tmp_path / "agent.safetensors"
    save_agent(untrained(), path)

    def misplaced(data, policy, n_t, *rest, **more):
        record = {"fingerprint": data.fingerprint | {"task": CAR}, "shards": []}
        data.directory.mkdir(parents=True)
        (data.directory / "data.json").write_text(json.dumps(record))
        raise KeyboardInterrupt

    arguments = (f"output={tmp_path / 'runs'}", f"agent.path={path}", "agent.baselines=[]")
    with monkeypatch.context() as patch:
        patch.setattr(guard_stages, "collect", misplaced)
        assert safetygym(*arguments) == 130
    capsys.readouterr()
    assert safetygym(*arguments) == 1
    err = capsys.readouterr().err
    assert "Traceback" not in err
    assert f"have task = '{CAR}'; '{POINT}' is needed" in err.splitlines()[-1]


def test_ten_thresholds_in_equal_ratios():
    assert len(THRESHOLDS) == 10
    assert (THRESHOLDS[0], THRESHOLDS[-1]) == (1e-5, 1.0)
    np.testing.assert_allclose(np.diff(np.log(THRESHOLDS)), np.log(1e5) / 9, rtol=1e-4)


def test_the_papers_radius():
    config = SafetyGymConfig()
    config.internal_test.n_t = 10**7
    assert config.fixed_radius() == pytest.approx(0.01)
    config.evaluation.xi = "0.3"
    assert config.fixed_radius() == 0.3
    config.evaluation.xi = "measured"
    assert config.fixed_radius() is None
    config.evaluation.calibrate = "most"
    with pytest.raises(ConfigError, match="calibrate"):
        config.validate()


def test_the_error_of_paths_is_no_part_of_an_identity_until_it_is_asked_for_and_needs_paths():
    plain, asked = SafetyGymConfig(experiment="safetygym"), SafetyGymConfig(experiment="safetygym")
    assert "path_error" not in identity(plain)
    asked.path_error.quantile = 0.99
    asked.validate()
    assert run_id(asked) != run_id(plain)
    asked.classifier.kind = "logits"
    with pytest.raises(ConfigError, match="needs paths: give classifier"):
        asked.validate()


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """A folder of reference agents: five of the first training, two of them routed, and two of a second."""
    monkeypatch.setattr(references, "REFERENCE", str(tmp_path))
    for name in (
        "point_ours", "point_ppo", "point_ppo_lag_0.5", "point_ours_seed1", "point_ppo_seed1",
        "point_ours_routed", "point_ppo_lag_routed_25",
    ):  # fmt: skip
        (tmp_path / f"{name}.safetensors").write_text(name)
    return tmp_path


def test_a_training_chooses_the_files_behind_the_guard_and_beside_it(shipped):
    config = SafetyGymConfig(experiment="safetygym")
    config.agent.baselines = ["all"]
    assert config.baselines() == ["ppo", "ppo_lag_0.5"]
    assert config.inputs()["agent.path"] == str(shipped / "point_ours.safetensors")
    config.agents.training_seed = 1
    config.validate()
    assert config.baselines() == ["ppo"]  # of the training that is asked for alone
    assert config.inputs()["agent.path"] == str(shipped / "point_ours_seed1.safetensors")
    assert config.reads() == [shipped / "point_ppo_seed1.safetensors"]
    config.agents.training_seed = 2
    with pytest.raises(ConfigError, match="'ours' of point was trained with 0, 1; train another"):
        config.validate()


def test_a_training_is_part_of_an_identity_and_the_first_one_is_not(shipped):
    first, second = SafetyGymConfig(experiment="safetygym"), SafetyGymConfig(experiment="safetygym")
    assert "agents" not in identity(first)
    second.agents.training_seed = 1
    assert identity(second)["agents"] == {"training_seed": 1}
    assert identity(second)["agent"]["path"] != identity(first)["agent"]["path"]
    assert run_id(second) != run_id(first)
