"""Dashboards on Weights & Biases, built from code: one workspace and one report for each experiment.

    python scripts/dashboards.py                             # make dashboards: needs a key (wandb login)
    python scripts/dashboards.py --offline results/runs/dashboards    # writes what would be sent; needs none

Beside them a run for each experiment (job type "claims") holds its rows of results/claims.csv as a table, its
committed figures as pictures, and its raw results as an artifact that is known by its content. The panels
name keys that runs with tracking=wandb log.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from experiments.llm.reporting import dashboard as llm
from experiments.production.reporting import dashboard as production
from experiments.safetygym.reporting import dashboard as safetygym
from experiments.support.config import PRESETS, TrackingConfig
from experiments.support.errors import TrackingError, UserError
from experiments.support.files import write_json
from experiments.support.page import sections
from experiments.support.results import claims, collect
from experiments.support.results.publish import RESULTS
from experiments.support.tracking import dashboards
from experiments.support.tracking.panels import Dashboard
from experiments.support.tracking.weights_and_biases import has_key, table
from experiments.theory.reporting import dashboard as theory
from scripts.report import PARTS

DASHBOARDS: tuple[Dashboard, ...] = (
    production.DASHBOARD,
    safetygym.DASHBOARD,
    llm.DASHBOARD,
    theory.DASHBOARD,
)


def claims_run(experiment: str, project: str, entity: str | None, mode: str, directory: Path) -> None:
    """A run that shows what is committed of an experiment: claims, figures, raw results.

    Args:
        experiment: its name.
        project: on Weights & Biases.
        entity: user or team; None: the one that is logged in.
        mode: "online" or "offline".
        directory: where W&B keeps its files.
    """
    wandb = import_wandb()
    directory.mkdir(parents=True, exist_ok=True)
    run = wandb.init(
        project=project, entity=entity, mode=mode, dir=str(directory), id=f"claims-{experiment}",
        name=f"claims of {experiment}", group="claims", job_type="claims", resume="allow",
        config={"experiment": experiment, "commit": claims.here()},
        settings=wandb.Settings(silent=True, disable_git=True),
    )  # fmt: skip
    ledger = claims.read(RESULTS / "claims.csv")
    run.log({"claims": table(wandb, ledger[ledger["experiment"] == experiment])})
    names = sections.figures_of(PARTS, RESULTS / "figures")[experiment]
    place = RESULTS / "figures"
    run.log({
        f"figures/{name}": wandb.Image(
            str(place / f"{name}.png"), caption=(place / f"{name}.txt").read_text(encoding="utf-8")
        )
        for name in names
    })  # fmt: skip
    for preset in PRESETS:
        raw = collect.RAW / preset / experiment
        if raw.is_dir():
            artifact = wandb.Artifact(f"raw-{experiment}-{preset}", type="raw results")
            artifact.add_dir(str(raw))
            run.log_artifact(artifact)
    run.finish()


def import_wandb() -> Any:
    """The package; raises `TrackingError` if it is missing."""
    try:
        import wandb
    except ImportError as error:
        raise TrackingError("make dashboards needs the package wandb (pip install wandb)") from error
    return wandb


def main(arguments: list[str]) -> int:
    settings = TrackingConfig()
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--offline", type=Path, metavar="FOLDER", help="write what would be sent; send nothing"
    )
    parser.add_argument("--project", default=settings.project, help="on Weights & Biases")
    parser.add_argument("--entity", default=settings.entity, help="user or team that owns the project")
    options = parser.parse_args(arguments)
    try:
        if options.offline:
            write(options.offline, options.project)
        else:
            send(options.project, options.entity)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def write(folder: Path, project: str) -> None:
    """Specifications as JSON, and the runs of claims as W&B's offline files."""
    for one in DASHBOARDS:
        path = folder / f"{one.experiment}.json"
        write_json(path, dashboards.specification(one, project))
        claims_run(one.experiment, project, None, "offline", folder / one.experiment)
        print(path)


def send(project: str, entity: str | None) -> None:
    """Save workspaces and reports under the account that is logged in; their addresses are printed.

    Raises:
        TrackingError: without a key.
    """
    if not has_key():
        raise TrackingError(
            "make dashboards needs a Weights & Biases key (wandb login); without one, --offline FOLDER "
            "writes what would be sent, and tracking=tensorboard needs no account"
        )
    entity = entity or import_wandb().Api().default_entity
    for one in DASHBOARDS:
        claims_run(one.experiment, project, entity, "online", collect.RUNS / "dashboards" / one.experiment)
        for made in (dashboards.workspace(one, project, entity), dashboards.report(one, project, entity)):
            made.save()
            print(f"{one.title}: {made.url}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
