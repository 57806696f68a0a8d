"""From a dashboard in our words to a W&B workspace and a W&B report (package wandb-workspaces)."""

from __future__ import annotations

import json
from typing import Any

from experiments.support.errors import TrackingError
from experiments.support.tracking.panels import Bars, Dashboard, Lines, Media, Panel, Points


def workspace(dashboard: Dashboard, project: str, entity: str | None) -> Any:
    """A workspace: runs of the experiment, grouped by sweep, under the dashboard's sections.

    Args:
        dashboard: what is shown.
        project: on Weights & Biases.
        entity: user or team; None where nothing is to be sent.

    Returns:
        A `wandb_workspaces.workspaces.Workspace` that is not saved yet.

    Raises:
        TrackingError: if the package is missing.
    """
    ws, _ = _packages()
    sections = [
        ws.Section(name=section.title, panels=[_panel(panel) for panel in section.panels], is_open=True)
        for section in dashboard.sections
    ]
    runs = ws.RunsetSettings(
        filters=f"Metric('JobType') == '{dashboard.experiment}'", groupby=[ws.Metric("Group")]
    )
    return ws.Workspace(
        name=dashboard.title,
        entity=entity or "",
        project=project,
        sections=sections,
        runset_settings=runs,
        auto_generate_panels=False,
    )


def report(dashboard: Dashboard, project: str, entity: str | None) -> Any:
    """A report: the dashboard's texts, and under each the panels over the experiment's runs.

    Args:
        dashboard: what is shown.
        project: on Weights & Biases.
        entity: user or team; None where nothing is to be sent (the runs are then the project's own).

    Returns:
        A `wandb_workspaces.reports.v2.Report` that is not saved yet.

    Raises:
        TrackingError: if the package is missing.
    """
    _, wr = _packages()
    blocks: list[Any] = [wr.P(dashboard.about), wr.TableOfContents()]
    for section in dashboard.sections:
        given = {"entity": entity, "project": project} if entity else {}
        runs = wr.Runset(
            name=dashboard.experiment,
            filters=f"Metric('JobType') == '{dashboard.experiment}'",
            groupby=["Group"],
            **given,
        )
        panels = [_panel(panel) for panel in section.panels]
        grid = wr.PanelGrid(runsets=[runs], panels=panels)
        blocks += [wr.H2(section.title), wr.P(section.about), grid]
    return wr.Report(
        project=project,
        entity=entity or "",
        title=dashboard.title,
        description=dashboard.about,
        width="fluid",
        blocks=blocks,
    )


def specification(dashboard: Dashboard, project: str) -> dict[str, Any]:
    """Workspace and report as they would be sent, as plain data. Nothing is sent, and no account is needed.

    Args:
        dashboard: what is shown.
        project: on Weights & Biases.

    Returns:
        {"experiment", "keys", "workspace", "report"}; `keys` are those that the panels name.
    """
    return {
        "experiment": dashboard.experiment,
        "keys": sorted({key for panel in dashboard.panels for key in panel.keys}),
        "workspace": _plain(workspace(dashboard, project, None)),
        "report": _plain(report(dashboard, project, None)),
    }


def _plain(thing: Any) -> dict[str, Any]:
    return json.loads(thing._to_model().model_dump_json(by_alias=True, exclude_none=True))


def _panel(panel: Panel) -> Any:
    _, wr = _packages()
    if isinstance(panel, Lines):
        return wr.LinePlot(
            title=panel.title,
            x=panel.x,
            y=list(panel.y),
            log_x=panel.log_x or None,
            log_y=panel.log_y or None,
        )
    if isinstance(panel, Points):
        return wr.ScatterPlot(
            title=panel.title,
            x=wr.SummaryMetric(panel.x),
            y=wr.SummaryMetric(panel.y),
            log_x=panel.log_x or None,
            log_y=panel.log_y or None,
        )
    if isinstance(panel, Bars):
        return wr.BarPlot(title=panel.title, metrics=list(panel.y))
    if isinstance(panel, Media):
        return wr.MediaBrowser(title=panel.title, media_keys=list(panel.media))
    return wr.WeavePanelSummaryTable(table_name=panel.table)


def _packages() -> tuple[Any, Any]:
    try:
        import wandb_workspaces.reports.v2 as wr
        import wandb_workspaces.workspaces as ws
    except ImportError as error:
        raise TrackingError(
            'make dashboards needs the package wandb-workspaces: pip install -e ".[dashboards]"'
        ) from error
    return ws, wr
