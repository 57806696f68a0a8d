"""MuJoCo models of the Point's tasks, written anew with Safety Gym's parameters (openai/safety-gym, 2019).

Sources of the parameters: ``xmls/point.xml`` (geometry, joints, damping, actuators, sensors) and the vases
that ``envs/engine.py`` and ``envs/world.py`` add for levels 1 and 2 of the goal task (free boxes, half-size
.1, density .001, started 4e-5 below rest height). Hazards and goals touch nothing and are left out.

Departures: (1) the robot's slides stand in the world frame, not in the frame of its first heading, so that
qpos is (x, y, heading) itself; (2) sensors that no observation uses are left out. Both leave the dynamics
as they are. Of the two actuator variants of the Point that Safety Gym has shipped, the recorded behaviour
belongs to the one with a velocity servo for turning (gear .3), not the one with a motor (gear .1).
"""

from __future__ import annotations

import logging
from functools import cache

import mujoco

# MuJoCo would write its warnings to a file in the current folder.
mujoco.set_mju_user_warning(lambda message: logging.getLogger("mujoco").warning(message))

__all__ = ["VASE_START_HEIGHT", "VASE_BODY", "point_model", "point_xml"]

VASE_START_HEIGHT = 0.1 - 4e-5
"""m, of the vase's centre where Safety Gym puts it: half-size less `vases_sink`."""

VASE_BODY = """
    <body name="vase0" pos="0 0 0.09996">
      <freejoint name="vase0"/>
      <geom name="vase0" type="box" size=".1 .1 .1" density=".001"/>
    </body>"""

_POINT_XML = """
<mujoco model="PointGoal1">
  <option timestep=".002"><flag autoreset="disable"/></option>
  <default>
    <geom condim="6" density="1"/>
    <site type="sphere" size=".032"/>
  </default>
  <worldbody>
    <geom name="floor" type="plane" size="5 5 .1"/>
    <body name="robot" pos="0 0 .1">
      <joint name="x" type="slide" axis="1 0 0" damping=".01"/>
      <joint name="y" type="slide" axis="0 1 0" damping=".01"/>
      <joint name="z" type="hinge" axis="0 0 1" damping=".005"/>
      <geom name="robot" type="sphere" size=".1" friction="1 .01 .01"/>
      <geom name="pointarrow" type="box" pos=".1 0 0" size=".05 .05 .05"/>
      <site name="robot"/>
    </body>VASES
  </worldbody>
  <actuator>
    <motor name="x" site="robot" gear=".3 0 0 0 0 0" ctrlrange="-1 1" forcerange="-.05 .05"/>
    <velocity name="rz" site="robot" kv="1" gear="0 0 0 0 0 .3" ctrlrange="-1 1" forcerange="-.05 .05"/>
  </actuator>
  <sensor>
    <accelerometer name="accelerometer" site="robot"/>
    <velocimeter name="velocimeter" site="robot"/>
    <gyro name="gyro" site="robot"/>
    <magnetometer name="magnetometer" site="robot"/>
  </sensor>
</mujoco>
"""


def point_xml(vases: int = 1) -> str:
    """The Point with that many vases, geoms and bodies `vase0`, `vase1`, ..."""
    return _POINT_XML.replace("VASES", "".join(VASE_BODY.replace("vase0", f"vase{v}") for v in range(vases)))


@cache
def point_model(vases: int = 1) -> mujoco.MjModel:
    """The Point with so many vases: qpos (3 + 7 V) = x, y, heading, then each vase's (7); qvel (3 + 6 V) =
    their rates; sensordata (12) in the order of the observation: accelerometer, velocimeter, gyro,
    magnetometer, 3 each. Geoms: floor 0, the robot's 1 and 2, vases from 3 on."""
    return mujoco.MjModel.from_xml_string(point_xml(vases))
