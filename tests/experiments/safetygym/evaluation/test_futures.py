"""Futures of one state: what is counted, and what the counts leave to a classifier."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from experiments.safetygym.agents.checkpoints import load_agent
from experiments.safetygym.evaluation import futures
from experiments.safetygym.references import agent_file


@pytest.fixture
def agent():
    return load_agent(agent_file("point", "ppo"))


def test_a_policy_without_chance_has_one_future(agent):
    output = agent.output
    agent.output = lambda observation: np.float32(1e6) * output(observation)
    found = futures.counts(agent, 48, 3, 12, seed=4)  # no goal is drawn anew where none is reached so soon
    assert 20 < len(found) <= 48
    assert np.isin(found, (0, 3)).mean() > 0.97
    assert (found == 3).any()


def test_counts_come_from_the_seed_and_grow_with_the_window(agent):
    found = futures.counts(agent, 48, 4, 60, seed=4)
    np.testing.assert_array_equal(found, futures.counts(agent, 48, 4, 60, seed=4))
    assert futures.counts(agent, 48, 4, 5, seed=4).sum() < found.sum()
    assert (found >= 0).all()
    assert (found <= 4).all()


def test_what_is_left_to_a_classifier():
    """Ten states: six whose futures are all safe, two ranked so whose others are not, two unsafe ones."""
    found = np.array([[0, 0]] * 6 + [[0, 2], [0, 1]] + [[5, 4], [10, 10]])
    table = pd.DataFrame(futures.left(found, 10)).set_index(["metric", "level"])["value"]
    alone = table.reset_index("level", drop=True)
    assert alone["unsafe"] == pytest.approx(32 / 200)
    assert alone["never"] == pytest.approx(0.8)
    assert alone["unsafe_where_never"] == pytest.approx(0.3 / 8)
    assert table["unsafe_of_least", 0.5] == 0.0
    assert table["unsafe_of_least", 1.0] == pytest.approx(1.7 / 10)
    # eight states are ranked alike, so that they are taken together: .0375; then .078 with the ninth
    assert table["acceptable", 1e-1] == pytest.approx(0.9)
    assert table["acceptable", 1e-2] == 0.0
    rows = pd.DataFrame(futures.left(found, 10)).dropna(subset="low")
    assert ((rows["low"] <= rows["value"]) & (rows["value"] <= rows["high"])).all()


def test_the_command_keeps_other_agents_and_refuses_nonsense(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(futures, "WINDOW", 3)
    place = tmp_path / "table.csv"
    for name in ("point_ppo", "point_ours", "point_ppo"):
        assert futures.main([f"agent={name}", "states=16", "futures=1", f"out={place}"]) == 0
    table = pd.read_csv(place)
    assert table.groupby("agent").size().to_dict() == {"ours": len(table) // 2, "ppo": len(table) // 2}
    for wrong in (["agent=boat_ppo"], ["agent=point_ppo", "states=0"], ["agent=point_ppo", "more=1"], []):
        assert futures.main([*wrong, f"out={place}"]) == 2
    assert capsys.readouterr().err.count("wrong arguments") == 4
    pd.testing.assert_frame_equal(pd.read_csv(place), table)
