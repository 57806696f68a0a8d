"""What is claimed of the monitor: labels until its alarm, how often it is wrong, and MAPIE's beside it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from experiments.theory.reporting.claims_promises import largest_failure_rate
from safeframe.certificates.cases import clopper_pearson_upper

OURS, AS_CALLED, MATCHED = "betting", "MAPIE", "MAPIE at alpha"
"""Methods of the table: a monitor that bets, MAPIE as a user calls it, and with a bound of level alpha."""
_PREFIX = {OURS: "", AS_CALLED: "mapie_", MATCHED: "mapie_at_alpha_"}


def claimed(table: pd.DataFrame, times: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Claims under monitor: median labels by r_t and risk, largest shares of false alarms and of wrong lower
    limits, MAPIE's labels and time over ours.
    """
    for method, rows in table.groupby("method", sort=False):
        prefix = _PREFIX[str(method)]
        for row in rows[(rows["multiple"] > 1.0) & np.isfinite(rows["median"])].to_dict("records"):
            ends = {name: row[f"median_{name}"] for name in ("low", "high")}
            finite = {name: value for name, value in ends.items() if np.isfinite(value)}
            yield {"claim": f"monitor.{prefix}labels_until_alarm.{cell(row)}", "value": row["median"],
                   "n": int(row["streams"]), **(finite if len(finite) == 2 else {})}  # fmt: skip
        value, low, high, n = largest_share(rows[rows["multiple"] <= 1.0], "alarms")
        yield {
            "claim": f"monitor.{prefix}false_alarm_share_max",
            "value": value,
            "low": low,
            "high": high,
            "n": n,
        }
    ours = table[table["method"] == OURS]
    value, low, high, n = largest_share(ours, "limit_above")
    yield {"claim": "monitor.lower_limit_failure_share_max", "value": value, "low": low, "high": high, "n": n}
    for method in (AS_CALLED, MATCHED):
        ratio = label_ratios(table, method)
        for end in ("min", "max") if len(ratio) else ():
            yield {
                "claim": f"monitor.fewer_labels_than_{_PREFIX[method]}{end}",
                "value": getattr(ratio["ratio"], end)(),
                "n": int(ratio["streams"].min()),
            }
    mine = times[times["method"] == OURS]
    yield {"claim": "monitor.update_ns", "value": mine["ns"].max(), "n": int(mine["updates"].min())}
    both = mine.merge(times[times["method"] == AS_CALLED], on="history", suffixes=("", "_theirs"))
    if len(both):
        most = both.loc[both["history"].idxmax()]
        yield {"claim": "monitor.update_ns_ratio", "value": most["ns_theirs"] / most["ns"],
               "n": int(most["updates_theirs"])}  # fmt: skip


def cell(row: dict[str, Any]) -> str:
    """r_t and risk as part of a claim's name: r1e_3_x1_5."""
    return f"r{row['r_t']:.0e}_x{row['multiple']:g}".replace("e-0", "e_").replace(".", "_")


def label_ratios(table: pd.DataFrame, method: str) -> pd.DataFrame:
    """Another method's median labels until the alarm over ours, where both have one, and the risk is above
    r_t.
    """
    pair = table[table["method"] == OURS].merge(
        table[table["method"] == method], on=["r_t", "multiple"], suffixes=("", "_theirs")
    )
    pair = pair[(pair["multiple"] > 1.0) & np.isfinite(pair["median"]) & np.isfinite(pair["median_theirs"])]
    return pair.assign(ratio=pair["median_theirs"] / pair["median"])


def largest_share(rows: pd.DataFrame, column: str) -> tuple[float, float, float, int]:
    """The largest share of streams over rows, a 95 % interval of that maximum, and the fewest streams."""
    share, n = rows[column] / rows["streams"], int(rows["streams"].min())
    if share.max() == 0.0:
        return 0.0, 0.0, clopper_pearson_upper(0, n, 0.025), n
    renamed = pd.DataFrame(
        {"failures": rows[column], "repeats": rows["streams"], "delta": 1.0, "guaranteed": True}
    )
    return float(share.max()), *largest_failure_rate(renamed), n
