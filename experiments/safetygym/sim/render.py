"""Rollouts from above, to PNG and GIF, without a display (Pillow).

Colours as Safety Gym's: hazards blue, goal green, vase cyan, robot red; rings of dots around the robot are
the lidars (16 bins each). If candidate actions are given, a panel beside the scene shows them where they
lie in the action space, coloured by the bound on their risk against the threshold, the chosen one framed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from experiments.safetygym.sim.task import GOAL_RADIUS, HAZARD_RADIUS, LIDAR_BINS, VASE_HALF_SIZE
from safeframe.types import SafeframeError

if TYPE_CHECKING:
    from experiments.safetygym.sim.vector import SafetyGymVector

SCENE = 480
"""pixels, of a side"""
PANEL = 220
BEYOND = 0.5
"""m from where objects end to the edge of the scene, more if a robot is further out"""
_SCALE = 2  # drawn larger, then reduced: smooth edges
_HAZARD, _GOAL, _VASE, _ROBOT = (70, 90, 220), (40, 160, 70), (30, 170, 180), (200, 40, 40)
_INK, _PALE, _WHITE = (40, 40, 40), (225, 225, 225), (255, 255, 255)
_LIDARS = (("goal_lidar", _GOAL), ("hazards_lidar", _HAZARD), ("vases_lidar", _VASE))


@dataclass(frozen=True)
class Candidates:
    """actions (k, 2); bound (k,) on the probability that each is unsafe; threshold r_t; index of the chosen
    one, None for the default action; names of the two parts of an action."""

    actions: np.ndarray
    bound: np.ndarray
    threshold: float
    chosen: int | None = None
    names: tuple[str, str] = ("thrust", "turn")

    def __post_init__(self) -> None:
        if np.ndim(self.actions) != 2 or np.shape(self.bound) != (len(self.actions),):
            raise SafeframeError(
                f"candidates: actions {np.shape(self.actions)} and bound {np.shape(self.bound)}; "
                "(k, 2) and (k,) are needed"
            )


@dataclass(frozen=True)
class Frame:
    """What one picture shows: robot (x, y, heading), goal (2,), hazards (H, 2), vases (V, 3): x, y, heading;
    lidar (3, 16): goal, hazards, vases; edge (m) of where objects are; path (t, 2) behind the robot; cost of
    this step; text; candidates."""

    robot: np.ndarray
    goal: np.ndarray
    hazards: np.ndarray
    vases: np.ndarray
    lidar: np.ndarray
    edge: float = 1.5
    is_car: bool = False
    path: np.ndarray | None = None
    cost: float = 0.0
    text: str = ""
    candidates: Candidates | None = None

    @staticmethod
    def of(
        env: SafetyGymVector,
        row: int,
        path: np.ndarray | None = None,
        cost: float = 0.0,
        text: str = "",
        candidates: Candidates | None = None,
    ) -> Frame:
        """Environment `row` as it stands."""
        state, task = env.get_state(np.array([row])), env.task
        body, (w, x, y, z) = state.robot[0], state.vases[0, :, 3:7].T
        turns = np.arctan2(2 * (x * y + w * z), 1 - 2 * (y * y + z * z))
        turn = env.robot.heading(state)[0]
        obs = env.last_observation[row]
        return Frame(
            robot=np.array([body[0], body[1], turn]),
            goal=state.goal[0],
            hazards=state.hazards[0],
            vases=np.column_stack([state.vases[0, :, :2], turns]),
            lidar=np.stack([obs[task.block(name)] for name, _ in _LIDARS]),
            edge=task.level.extent,
            is_car=task.robot == "car",
            path=path,
            cost=cost,
            text=text,
            candidates=candidates,
        )


def draw(frame: Frame, extent: float | None = None) -> np.ndarray:
    """The picture (480, 480 or 700, 3) uint8; `extent` (m) is half the width of the scene."""
    size = SCENE * _SCALE
    scene = Image.new("RGB", (size, size), _WHITE)
    pen = _Pen(ImageDraw.Draw(scene, "RGBA"), extent or extent_of([frame]), size)
    pen.box((0.0, 0.0, 0.0), frame.edge, frame.edge, None, _PALE)
    for hazard in frame.hazards:
        pen.disc(hazard, HAZARD_RADIUS, (*_HAZARD, 90), _HAZARD)
    pen.disc(frame.goal, GOAL_RADIUS, (*_GOAL, 90), _GOAL)
    for vase in frame.vases:
        pen.box(vase, VASE_HALF_SIZE, VASE_HALF_SIZE, (*_VASE, 150), _VASE)
    if frame.path is not None and len(frame.path) > 1:
        pen.line(frame.path, (*_INK, 110))
    _draw_robot(pen, frame)
    picture = scene.reduce(_SCALE)
    if frame.candidates is not None:
        wide = Image.new("RGB", (SCENE + PANEL, SCENE), _WHITE)
        wide.paste(picture, (0, 0))
        wide.paste(_panel(frame.candidates), (SCENE, 0))
        picture = wide
    if frame.text:
        ImageDraw.Draw(picture).multiline_text((8, 6), frame.text, fill=_INK)
    return np.asarray(picture)


def extent_of(frames: Sequence[Frame]) -> float:
    """Half the width (m) of a scene that shows the robots of all frames."""
    edges = [frame.edge + BEYOND for frame in frames]
    return max([*edges, *(float(np.abs(frame.robot[:2]).max()) + BEYOND for frame in frames)])


def save_png(frame: Frame, path: str | Path) -> Path:
    """Write one picture; its folder is made."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(draw(frame)).save(path, format="PNG")
    return path


def save_gif(frames: Sequence[Frame], path: str | Path, seconds_per_frame: float = 0.05) -> Path:
    """Write frames as an endless GIF with one scale. Raises SafeframeError if there are none."""
    if not frames:
        raise SafeframeError("a GIF needs at least one frame")
    path, extent = Path(path), extent_of(frames)
    path.parent.mkdir(parents=True, exist_ok=True)
    pictures = [
        Image.fromarray(draw(frame, extent)).quantize(
            128, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE
        )
        for frame in frames
    ]
    duration = max(20, round(1000 * seconds_per_frame))
    pictures[0].save(
        path,
        format="GIF",
        save_all=True,
        append_images=pictures[1:],
        duration=duration,
        loop=0,
        optimize=False,
    )
    return path


def bound_colour(bound: float, threshold: float) -> tuple[int, int, int]:
    """Green at a hundredth of the threshold and below, yellow just under it, orange just above, red at a
    hundred times it and above."""
    ratio = math.log10(max(bound, 1e-30) / threshold) / 2.0
    green, yellow, orange, red = (60, 160, 80), (215, 215, 90), (240, 150, 60), (190, 40, 40)
    low, high, t = (green, yellow, 1 + ratio) if ratio < 0 else (orange, red, ratio)
    t = min(max(t, 0.0), 1.0)
    r, g, b = (round(a + (z - a) * t) for a, z in zip(low, high, strict=True))
    return r, g, b


class _Pen:
    """Draws in metres."""

    def __init__(self, pen: ImageDraw.ImageDraw, extent: float, size: int):
        self.pen, self.extent, self.per_metre = pen, extent, size / (2 * extent)

    def at(self, x: float, y: float) -> tuple[float, float]:
        return (x + self.extent) * self.per_metre, (self.extent - y) * self.per_metre

    def disc(self, centre: Sequence[float] | np.ndarray, radius: float, fill, outline=None) -> None:
        (x, y), r = self.at(centre[0], centre[1]), radius * self.per_metre
        self.pen.ellipse((x - r, y - r, x + r, y + r), fill=fill, outline=outline, width=_SCALE)

    def box(
        self, pose, half_length: float, half_width: float, fill, outline=None, ahead: float = 0.0
    ) -> None:
        c, s = math.cos(pose[2]), math.sin(pose[2])
        corners = [(ahead + i * half_length, j * half_width) for i, j in ((1, 1), (1, -1), (-1, -1), (-1, 1))]
        points = [self.at(pose[0] + c * a - s * b, pose[1] + s * a + c * b) for a, b in corners]
        self.pen.polygon(points, fill=fill, outline=outline, width=_SCALE)

    def line(self, points: np.ndarray, fill) -> None:
        self.pen.line([self.at(x, y) for x, y in points], fill=fill, width=2 * _SCALE)


def _draw_robot(pen: _Pen, frame: Frame) -> None:
    x, y, turn = frame.robot
    if frame.cost > 0:
        pen.disc((x, y), 0.24, (*_ROBOT, 60), _ROBOT)
    if frame.is_car:  # the Car drives along its y axis
        pen.box(frame.robot, 0.1, 0.1, _ROBOT)
        pose = (x, y, turn - math.pi / 2)
        pen.box(pose, 0.01, 0.05, _ROBOT, ahead=0.165)
        pen.box(pose, 0.03, 0.05, _ROBOT, ahead=0.13)
    else:
        pen.disc((x, y), 0.1, _ROBOT)
        pen.box(frame.robot, 0.05, 0.05, _ROBOT, ahead=0.1)
    for ring, (_, colour) in enumerate(_LIDARS):
        for k, strength in enumerate(frame.lidar[ring]):
            angle = turn + 2 * math.pi * (k + 0.5) / LIDAR_BINS
            radius = 0.27 + 0.05 * ring
            spot = (x + radius * math.cos(angle), y + radius * math.sin(angle))
            pen.disc(spot, 0.018, (*colour, round(255 * min(1.0, 0.08 + float(strength)))))


def _panel(candidates: Candidates) -> Image.Image:
    """The candidates at their places in the action space: thrust (or left wheel) upwards, turn (or right
    wheel) to the left, where positive turns go."""
    panel = Image.new("RGB", (PANEL, SCENE), _WHITE)
    pen = ImageDraw.Draw(panel)
    values = [np.unique(candidates.actions[:, axis]) for axis in (0, 1)]
    high, wide = min(40, 360 // len(values[0])), min(40, (PANEL - 30) // len(values[1]))
    pen.text((14, 60), f"bound on risk, r_t = {candidates.threshold:g}", fill=_INK)
    for k, (action, bound) in enumerate(zip(candidates.actions, candidates.bound, strict=True)):
        row = len(values[0]) - 1 - int(np.searchsorted(values[0], action[0]))
        column = len(values[1]) - 1 - int(np.searchsorted(values[1], action[1]))
        left, top = 14 + column * wide, 84 + row * high
        box = (left, top, left + wide - 4, top + high - 4)
        chosen = k == candidates.chosen
        pen.rectangle(
            box,
            bound_colour(float(bound), candidates.threshold),
            _INK if chosen else None,
            3 if chosen else 0,
        )
    below = 90 + len(values[0]) * high
    pen.text((14, below + 32), f"up: {candidates.names[0]}, left: {candidates.names[1]}", fill=_INK)
    accepted = int((np.asarray(candidates.bound) <= candidates.threshold).sum())
    pen.text((14, below), f"{accepted} of {len(candidates.actions)} accepted", fill=_INK)
    if candidates.chosen is None:
        pen.text((14, below + 16), "default action", fill=_ROBOT)
    return panel
