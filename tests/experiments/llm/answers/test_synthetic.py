"""Source `synthetic` with the models that come with the repository."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from experiments.llm.answers.hub import HubSource
from experiments.llm.answers.pools import SPLITS, Pool
from experiments.llm.answers.synthetic import WORLD_SEED, SyntheticSource
from experiments.llm.assembly import make_source
from experiments.llm.models import spreading
from experiments.llm.models.model_settings import REFERENCE, ModelsConfig
from experiments.llm.models.preference_models import load_score_model, score_all
from experiments.llm.models.tokenizer import SYNTHETIC_TEMPLATE
from experiments.llm.world import grammar
from experiments.llm.world.conversation_world import World
from experiments.llm.world.vocabulary import build_tokenizer
from experiments.support.engine.engine import Engine
from experiments.support.engine.settings import EngineConfig
from experiments.support.errors import ConfigError
from experiments.support.runs.stages import Stage
from experiments.support.seeding import Seeds
from safeframe.types import SafeframeError


class Context:
    """A run's cache and seeds."""

    def __init__(self, root, seed: int = 0, engine: str = "local", workers: int = 1):
        self.root, self.seeds, self.made = root, Seeds(seed), []
        self.engine = Engine(EngineConfig(engine, workers))

    def cache(self, name, depends, compute, save, load, suffix):
        stage = Stage(self.root, "llm", name, dict(depends), "code")
        self.made.append(name)
        return stage.cached(lambda: compute(stage), save, load, suffix)

    def progress(self, items, *_args, **_more):
        return items


def source(root, seed: int = 0, candidates: int = 16, **models) -> SyntheticSource:
    return SyntheticSource(ModelsConfig(**models), candidates, Context(root, seed))


@pytest.fixture(scope="module")
def pool(tmp_path_factory) -> Pool:
    return source(tmp_path_factory.mktemp("cache")).pool("train", 500)


def test_the_guarded_model_needs_a_guard(pool):
    """Harm is in a few of all answers, in many prompts, and choosing by reward finds it."""
    assert pool.shape == (500, 16)
    assert 0.04 < pool.true_harm.mean() < 0.25
    best = pool.true_harm[np.arange(500), pool.reward.argmax(axis=1)]
    assert best.mean() > 2 * pool.true_harm[:, 0].mean()
    topic = np.array(pool.group)
    assert pool.true_harm[np.isin(topic, ("kitchen", "garden"))].mean() < 0.01
    assert pool.true_harm[topic == "chemistry"].mean() > 0.08
    assert (pool.true_harm.min(axis=1) < 1e-3).mean() > 0.95  # there is nearly always a harmless answer


def test_learned_scores_agree_with_the_truth(pool):
    """Far from perfectly: the reward model's correlation is about .78, the cost model's AUC about .94."""
    prompts = grammar.draw_prompts("train", 500, Seeds(0).generator("prompts", "train"))
    assert prompts.text() == pool.prompt
    answers = grammar.parse([text for row in pool.answer for text in row])
    found = World(WORLD_SEED).truth(prompts[np.repeat(np.arange(500), 16)], answers)
    np.testing.assert_allclose(found.harm.reshape(500, 16), pool.true_harm, atol=1e-6)
    assert np.corrcoef(found.helpfulness, pool.reward.ravel())[0, 1] > 0.7
    cost = load_score_model(REFERENCE / "cost")
    score = score_all(cost, build_tokenizer(), SYNTHETIC_TEMPLATE, pool.prompt, pool.answer, 40, 25).ravel()
    assert np.array_equal(pool.harmful.ravel() == 1, score > 0)
    truth = found.harm > 0.5
    assert stats.mannwhitneyu(score[truth], score[~truth]).statistic / (truth.sum() * (~truth).sum()) > 0.9
    assert pool.true_harm[pool.harmful == 1].mean() > 5 * pool.true_harm[pool.harmful == 0].mean()


def test_pools_are_cached_by_what_they_depend_on(tmp_path, monkeypatch):
    one = source(tmp_path, candidates=2).pool("validation", 20)
    with monkeypatch.context() as patch:
        patch.setattr("experiments.llm.answers.generating.generate", None)
        again = source(tmp_path, candidates=2).pool("validation", 20)
    assert again.answer == one.answer
    assert np.array_equal(again.reward, one.reward)
    for changed in (
        source(tmp_path, seed=1, candidates=2),
        source(tmp_path, candidates=2, temperature=0.5),
        source(tmp_path, candidates=3),
    ):
        assert changed.pool("validation", 20).answer != one.answer
    assert not list(tmp_path.rglob("shards"))


def test_splits_and_seeds_differ(tmp_path):
    found = {split: set(source(tmp_path, candidates=2).pool(split, 30).prompt) for split in SPLITS}
    assert not found["train"] & found["validation"]
    with pytest.raises(SafeframeError, match="split='model' is not one of"):
        source(tmp_path).pool("model", 10)


def test_labels_and_rewards_of_the_world_and_label_noise(tmp_path):
    known = source(tmp_path, labels="world", rewards="world", candidates=8).pool("train", 300)
    assert abs(known.harmful.mean() - known.true_harm.mean()) < 0.02
    noisy = source(tmp_path, labels="world", rewards="world", candidates=8, label_noise=0.2).pool(
        "train", 300
    )
    assert abs((noisy.harmful != known.harmful).mean() - 0.2) < 0.03
    reward = source(tmp_path, rewards="world").default_reward(["a", "b"])
    assert reward.tolist() == [reward[0]] * 2
    assert reward[0] < known.reward.mean()


def test_the_default_answer_has_a_reward(tmp_path, pool):
    found = source(tmp_path).default_reward(pool.prompt[:50])
    assert found.shape == (50,)
    assert found.mean() < pool.reward.mean()
    texts = [[grammar.REFUSAL]] * 50  # the default answer, as the tokenizer reads it
    reward = load_score_model(REFERENCE / "reward")
    expected = score_all(reward, build_tokenizer(), SYNTHETIC_TEMPLATE, pool.prompt[:50], texts, 40, 25)
    np.testing.assert_allclose(found, expected[:, 0], atol=1e-6)


POLICIES = sorted(path.parent.name for path in REFERENCE.glob("ppo_lag_*/model.safetensors"))


@pytest.mark.parametrize("policy", POLICIES)
def test_policies_at_cost_limits(tmp_path, pool, policy):
    found = source(tmp_path, candidates=2).pool("train", 400, policy)
    assert found.prompt == pool.prompt[:400]
    assert found.true_harm.mean() < pool.true_harm.mean() + 0.02


def test_a_model_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match=r"python -m experiments.llm.world.reference_models ppo_lag_7"):
        source(tmp_path).pool("train", 10, "ppo_lag_7")


def test_the_reference_models_are_small_and_whole():
    files = [path for path in REFERENCE.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 5e6
    for name in ("ai", "classifier_base", "reward", "cost", *POLICIES):
        found = {path.name for path in (REFERENCE / name).iterdir()}
        assert {"model.safetensors", "config.json", "tokenizer.json"} <= found


def test_the_source_is_made_from_the_configuration(tmp_path):
    from experiments.llm.config import LLMConfig

    made = make_source(LLMConfig(experiment="llm"), Context(tmp_path))
    assert isinstance(made, SyntheticSource)
    assert made.classifier_model().config.num_labels == 2
    assert isinstance(make_source(LLMConfig(experiment="llm", source="hub"), Context(tmp_path)), HubSource)


def engine_pool(root, engine: str, workers: int = 1) -> Pool:
    """A pool of several shards and batches, on an engine."""
    context = Context(root, 0, engine, workers)
    try:
        return SyntheticSource(ModelsConfig(shard=16, batch=64), 4, context).pool("validation", 50)
    finally:
        context.engine.close()


@pytest.mark.long
def test_workers_make_the_pool_that_one_process_makes(tmp_path, monkeypatch):
    """Every byte, whatever the number of workers: answers, log-probabilities, rewards and costs."""
    monkeypatch.setattr(spreading, "ROWS", 60)
    one = engine_pool(tmp_path / "local", "local")
    for workers in (1, 2):
        found = engine_pool(tmp_path / f"joblib{workers}", "joblib", workers)
        for name, value in vars(one).items():
            other = getattr(found, name)
            if isinstance(value, np.ndarray):
                np.testing.assert_array_equal(other, value, strict=True)
            else:
                assert other == value, name
    (values,) = {path.read_bytes() for path in tmp_path.rglob("value.npz")}
    assert values
    assert not list(tmp_path.rglob("tasks"))
