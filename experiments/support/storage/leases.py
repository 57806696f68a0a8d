"""Leases in a shared store: who is at work on what, so that others wait or do something else.

A lease is an object that its holder rewrites every BEAT seconds. One that has not changed for PATIENCE
seconds, or whose holder was a process of this machine that has ended, is taken over. Nothing rests on a lease
but work saved: where two hold one, both do the same, and the first result stays.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import threading
import time
import uuid
from collections.abc import Iterator

from experiments.support.errors import StoreError, UserError
from experiments.support.storage.objects import Objects, this_process

log = logging.getLogger(__name__)
BEAT, PATIENCE, POLL = 20.0, 120.0, 2.0
"""Seconds between two signs of life, until a silent holder counts as dead, and between two looks."""


@contextlib.contextmanager
def lease(objects: Objects, name: str, what: str, wait: bool) -> Iterator[bool]:
    """Hold a lease; yields whether it is held.

    Args:
        objects: the store.
        name: of the lease's object.
        what: is worked on, for the message.
        wait: for its holder to end; otherwise yields False at once.

    Raises:
        StoreError: where the store cannot be reached or written.
    """
    token = uuid.uuid4().hex
    if not _take(objects, name, what, wait, token):
        yield False
        return
    ended = threading.Event()
    beating = threading.Thread(target=_beat, args=(objects, name, token, ended), daemon=True)
    beating.start()
    try:
        yield True
    finally:
        ended.set()
        beating.join()
        with contextlib.suppress(UserError):  # left behind, it is taken over
            if (objects.read_json(name) or {}).get("token") == token:
                objects.delete(name)


def _content(token: str, beat: int) -> bytes:
    return json.dumps({**this_process(), "token": token, "beat": beat}).encode()


def _take(objects: Objects, name: str, what: str, wait: bool, token: str) -> bool:
    seen, since, told = None, time.monotonic(), False
    while not objects.create(name, _content(token, 0)):
        try:
            found = objects.read_json(name)
        except StoreError:
            raise
        except UserError:  # no lease that anybody holds
            found = {}
        if found is None:
            continue
        if found != seen:
            seen, since = found, time.monotonic()
        if _ended(found) or time.monotonic() - since > PATIENCE:
            log.info("%s: whoever was at work on it is gone; taking over", what)
            objects.delete(name)
            continue
        if not wait:
            return False
        if not told:
            log.info("another machine is at work on %s: waiting for it (%s)", what, objects.at(name))
            told = True
        time.sleep(POLL)
    return True


def _ended(holder: dict) -> bool:
    """Whether a holder was a process of this machine that has ended, or is none."""
    if not isinstance(holder.get("pid"), int):
        return True
    if holder.get("host") != this_process()["host"]:
        return False
    try:
        os.kill(holder["pid"], 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def _beat(objects: Objects, name: str, token: str, ended: threading.Event) -> None:
    beat = 0
    while not ended.wait(BEAT):
        beat += 1
        with contextlib.suppress(UserError):  # a beat that is lost is made up for by the next one
            if (objects.read_json(name) or {}).get("token") != token:
                return  # somebody took over
            objects.replace(name, _content(token, beat))
