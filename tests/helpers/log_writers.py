"""Write one log from several processes, or kill its writer again and again; print what came of it as JSON.

python log_writers.py <file> kill <how many times>
python log_writers.py <file> write <how many processes>

A program of its own: it forks.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

from service_problem import calibrated, stream

from safeframe.service.log import GuardLog

ROWS, BATCHES = 5, 25


def write(path: Path, name: str, guard, acknowledge: int, batches: int) -> None:
    """Batches of five rows, each then labelled; the number of what is done goes to the pipe."""
    log = GuardLog(path, guard, durable=False)
    y, label = stream(ROWS)
    for batch in range(batches):
        done = log.act(y, ids=[f"{name}.{batch}.{row}" for row in range(ROWS)])
        os.write(acknowledge, b"d")
        log.label(done.ids, label)
        os.write(acknowledge, b"l")


def in_child(*arguments) -> tuple[int, int]:
    """Process and the end of the pipe to read its acknowledgements from."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            write(*arguments[:3], writing, arguments[3])
        except BaseException as error:  # noqa: BLE001 (the child must not return into the loop)
            print(repr(error), file=sys.stderr)
            os._exit(1)
        os._exit(0)
    os.close(writing)
    return child, reading


def all_of(reading: int) -> bytes:
    parts = []
    while part := os.read(reading, 65536):
        parts.append(part)
    os.close(reading)
    return b"".join(parts)


def in_log(log: GuardLog, name: str) -> tuple[list[int], list[int]]:
    """Rows of each batch of a writer, and labels of each."""
    query = (
        "SELECT d.id, l.unsafe FROM decisions d LEFT JOIN labels l ON l.decision = d.seq"
        " WHERE d.id LIKE ? ORDER BY d.seq"
    )
    rows: dict[int, int] = {}
    labels: dict[int, int] = {}
    for name_of, unsafe in log.database.read(query, (f"{name}.%",)):
        batch = int(name_of.split(".")[1])
        rows[batch] = rows.get(batch, 0) + 1
        labels[batch] = labels.get(batch, 0) + (unsafe is not None)
    return list(rows.values()), list(labels.values())


def main() -> None:
    path, what, many = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    guard = calibrated(500)
    found = {"lost": 0, "half": 0, "more_than_one": 0, "killed": 0, "rows": 0, "failed": 0}
    if what == "kill":
        draw = random.Random(0)
        for time_of in range(many):
            child, reading = in_child(path, f"k{time_of}", guard, 10**6)
            os.read(reading, 1)  # it has begun
            time.sleep(draw.random() * 0.03)
            os.kill(child, signal.SIGKILL)
            found["killed"] += os.WIFSIGNALED(os.waitpid(child, 0)[1])
            acknowledged = b"d" + all_of(reading)
            with GuardLog(path, guard) as log:
                rows, labels = in_log(log, f"k{time_of}")
            decided, labelled = acknowledged.count(b"d"), acknowledged.count(b"l")
            whole = sum(count == ROWS for count in labels)
            found["half"] += sum(count != ROWS for count in rows) + sum(
                count not in (0, ROWS) for count in labels
            )
            found["lost"] += max(decided - len(rows), 0) + max(labelled - whole, 0)
            found["more_than_one"] += len(rows) - decided > 1 or whole - labelled > 1
    else:
        children = [in_child(path, f"w{i}", guard, BATCHES) for i in range(many)]
        for _, reading in children:
            all_of(reading)
        found["failed"] = sum(os.waitpid(child, 0)[1] != 0 for child, _ in children)
        with GuardLog(path, guard) as log:
            for i in range(many):
                rows, labels = in_log(log, f"w{i}")
                found["lost"] += BATCHES - len(rows)
                found["half"] += sum(count != ROWS for count in rows + labels)
    with GuardLog(path, guard) as log:
        found["rows"] = len(log)
        found["sound"] = log.database.read("PRAGMA integrity_check") == [("ok",)]
        times = [row[0] for row in log.database.read("SELECT time FROM decisions ORDER BY seq")]
        found["in_order"] = times == sorted(times)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
