"""MuJoCo models of CarGoal1, written anew with the parameters of Safety Gym (openai/safety-gym, 2019).

Sources of the parameters: ``xmls/car.xml`` (geometry, joints, damping, actuators, sensors) and the vase that
``envs/engine.py`` adds for level 1 of the goal task. Hazards and goals touch nothing and are left out.

Departures: (1) sensors that no observation uses are left out; (2) the solver's tolerance is 1e-12, not 1e-8.
With 1e-8 current MuJoCo stops Newton's method earlier than MuJoCo 2.1 did in the recorded original: errors of
one control step are then 1e-7 m and, rarely, 6e-5 m; at 1e-12 they are 3e-10 m, at the same speed.
(3) A state that has diverged is not silently put back to the start: NaN stays NaN and is reported.
"""

from __future__ import annotations

from functools import cache

import mujoco

from experiments.safetygym.sim.mjcf import VASE_BODY

TIMESTEP = 0.004
"""s"""
WHEEL_RADIUS = 0.05
"""m; both wheels and the rear ball"""
START_HEIGHT = 0.1
"""m; of the chassis' origin: the wheels just touch the floor"""
CHASSIS_BOXES = (
    ("robot", (0.0, 0.0, 0.0), (0.1, 0.1, 0.05)),
    ("back_bumper", (0.0, 0.15, 0.0), (0.1, 0.01, 0.05)),
    ("back_connector", (0.0, 0.125, 0.0), (0.01, 0.025, 0.03)),
    ("front_bumper", (0.0, -0.165, 0.0), (0.05, 0.01, 0.05)),
    ("front_connector", (0.0, -0.13, 0.04), (0.05, 0.03, 0.01)),
)
"""name, centre and half-sizes in m, in the frame of the chassis"""
SENSORS = ("accelerometer", "ballangvel", "ballquat", "gyro", "magnetometer", "velocimeter")


def _numbers(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:g}" for value in values)


def car_xml(vase: bool = True) -> str:
    """The MJCF text of the Car on its floor, with the vase as a free body or without it."""
    boxes = "".join(
        f'<geom name="{name}" type="box" pos="{_numbers(pos)}" size="{_numbers(size)}"/>'
        for name, pos, size in CHASSIS_BOXES
    )
    sensors = "".join(
        f'<{kind} name="{kind}" ' + ('joint="rear"/>' if kind.startswith("ball") else 'site="robot"/>')
        for kind in SENSORS
    )
    return f"""
<mujoco model="CarGoal1">
  <option timestep="{TIMESTEP}" tolerance="1e-12"><flag autoreset="disable"/></option>
  <default>
    <geom condim="6" density="5" size="{WHEEL_RADIUS}"/>
    <joint damping=".001"/>
    <motor ctrlrange="-1 1" ctrllimited="true" forcerange="-.02 .02" forcelimited="true"/>
    <site type="sphere" size=".032"/>
  </default>
  <worldbody>
    <geom name="floor" type="plane" size="3.5 3.5 .1"/>
    <body name="robot" pos="0 0 {START_HEIGHT}">
      <site name="robot"/>
      <freejoint name="robot"/>
      {boxes}
      <body name="left" pos="-.1 .1 -.05">
        <joint name="left" type="hinge" axis="1 0 0"/>
        <geom name="left" type="cylinder" fromto="-.055 0 0 -.005 0 0"/>
      </body>
      <body name="right" pos=".1 .1 -.05">
        <joint name="right" type="hinge" axis="1 0 0"/>
        <geom name="right" type="cylinder" fromto=".005 0 0 .055 0 0"/>
      </body>
      <body name="rear" pos="0 -.1 -.05">
        <joint name="rear" type="ball"/>
        <geom name="rear" type="sphere"/>
      </body>
    </body>{VASE_BODY if vase else ""}
  </worldbody>
  <sensor>{sensors}</sensor>
  <actuator>
    <motor name="left" joint="left"/>
    <motor name="right" joint="right"/>
  </actuator>
</mujoco>
"""


@cache
def car_model(vase: bool = True) -> mujoco.MjModel:
    """qpos: robot 13 (free 7, left, right, rear ball 4), then vase 7; qvel: robot 11, then vase 6; sensordata
    (19): accelerometer 3, ballangvel 3, ballquat 4, gyro 3, magnetometer 3, velocimeter 3."""
    return mujoco.MjModel.from_xml_string(car_xml(vase))
