"""Safety Gym's part of the report: its figures, interactive frontiers and episodes."""

from __future__ import annotations

from experiments.safetygym.references import TASK_OF
from experiments.support.page.parts import Axis, Frontier, Part

METHODS = {
    "ours": "ours",
    "ours_routed": "ours, routed",
    "ppo": "PPO",
    "ppo_gaussian": "PPO, Gaussian policy",
    "ppo_lag": "PPO-Lag",
    "ppo_lag_long": "PPO-Lag, trained longer",
    "ppo_barrier": "PPO-Barrier",
    "saute": "Sauté PPO",
    "guarded_ppo": "guard around PPO",
    "guarded_ppo_lag": "guard around PPO-Lag",
}
INTERVAL = "t over runs, 95 %; for counts at least as wide as Clopper-Pearson"


def _frontiers(robot: str, table: str, preset: str, runs: str) -> tuple[Frontier, Frontier]:
    shared = {
        "table": table,
        "where": {"robot": robot},
        "n": "steps",
        "units": "steps",
        "interval": INTERVAL,
        "seeds": (f"safetygym.{robot}.violation_over_threshold_max", TASK_OF[robot], preset),
    }
    name = f"{robot.capitalize()}Goal1{runs}"
    cost = Frontier(
        name=f"safetygym_{robot}_{preset}_return",
        title=f"Steps inside a hazard against return, {name}",
        about="Both per 1,000 steps. Lower is safer, further right does more of the task.",
        x=Axis("return", "return", False, "return_low", "return_high"),
        y=Axis("cost", "steps inside a hazard", True, "cost_low", "cost_high"),
        methods=METHODS,
        **shared,
    )
    unsafe = Frontier(
        name=f"safetygym_{robot}_{preset}_threshold",
        title=f"Unsafe actions against the threshold, {name}",
        about="Truly unsafe among accepted actions. At or below the dotted line is what is promised.",
        x=Axis("r_t", "threshold r_t", True),
        y=Axis("unsafe", "unsafe actions (share of accepted ones)", True, "unsafe_low", "unsafe_high"),
        methods={"ours": "ours"},
        promise=True,
        **shared,
    )
    return cost, unsafe


LAPTOP, PAPER = "tables/safetygym_curves.csv", "preset_paper/tables/safetygym_curves.csv"

PART = Part(
    experiment="safetygym",
    title="Safety Gym",
    about="A simulated robot drives to goals on a plane and must not enter the hazards that lie about. The "
    "guard checks every action that the robot's agent proposes, and brakes where none is safe enough.",
    figures=("figure_3a", "figure_3c", "figure_3b", "figure_3d", "figure_3*"),
    frontiers=(
        *_frontiers("point", LAPTOP, "laptop", ""),
        *_frontiers("point", PAPER, "paper", " at the paper's size"),
        *_frontiers("car", LAPTOP, "laptop", ""),
        *_frontiers("car", PAPER, "paper", " at the paper's size"),
    ),
    episodes=True,
)
