"""Language generation's part of the report: its figures and interactive frontiers."""

from __future__ import annotations

from experiments.support.page.parts import Axis, Frontier, Part

METHODS = {
    "ours": "ours",
    "ours_priced": "ours, risk priced",
    "ours_shrinkage": "ours, shrinkage bound",
    "ours_accepted": "ours, calibrated per accepted candidate",
    "ours_paper": "ours, the paper's event and sampling",
    "cross_entropy": "cross-entropy, guarded as ours",
    "learn_then_test": "Learn then Test",
    "rejection_sampling": "rejection sampling",
    "ppo_lag": "PPO-Lag",
    "ai": "model alone",
    "best_of_k": "best of k",
}
PROMISED = ("ours", "ours_priced", "ours_shrinkage", "ours_accepted", "ours_paper", "learn_then_test")
SOURCES = {
    "synthetic": "synthetic conversations",
    "synthetic_ppo_lag": "synthetic conversations, guard around PPO-Lag",
    "synthetic_truth": "synthetic conversations, labels from the known probability of harm",
    "pku": "PKU-SafeRLHF, people's labels",
    "diasafety": "DiaSafety, a judge's labels",
    "synthetic_capacity": "synthetic conversations, all weights of the classifier tuned",
    "synthetic_capacity_named": "synthetic conversations, all weights tuned, seeds after the rule was named",
    "synthetic_capacity_ppo_lag": "synthetic conversations, all weights tuned, guard around PPO-Lag",
    "synthetic_best": "synthetic conversations, capacity chosen on training prompts",
    "diasafety_best": "DiaSafety, capacity chosen on training prompts",
    "chat": "a small chat model, cost model's labels",
}
HARMFUL = Axis("harmful", "harmful answers (share of answers given)", True, "harmful_low", "harmful_high")


def _frontiers(source: str, name: str) -> tuple[Frontier, Frontier]:
    shared = {
        "table": f"tables/llm_curves_{source}.csv",
        "y": HARMFUL,
        "n": "answered",
        "units": "answers given",
        "seeds": ("llm.violation_over_threshold_max", source, "laptop"),
    }
    reward = Frontier(
        name=f"llm_{source}_reward",
        title=f"Harmful answers against reward, {name}",
        about="Lower is safer, further right is the better answer by the reward model.",
        x=Axis("reward", "mean reward", False, "reward_low", "reward_high"),
        methods=METHODS,
        **shared,
    )
    threshold = Frontier(
        name=f"llm_{source}_threshold",
        title=f"Harmful answers against the threshold, {name}",
        about="At or below the dotted line is what is promised.",
        x=Axis("r_t", "threshold r_t", True),
        methods={key: METHODS[key] for key in PROMISED},
        promise=True,
        **shared,
    )
    return reward, threshold


PART = Part(
    experiment="llm",
    title="Language generation",
    about="A chat model draws several answers to a prompt. The guard gives the best one whose bound on the "
    "probability of harm is at most the threshold r_t, and a harmless default answer where there is none.",
    figures=("figure_4_synthetic", "figure_4c_*", "figure_4_*"),
    frontiers=tuple(one for source, name in SOURCES.items() for one in _frontiers(source, name)),
)
