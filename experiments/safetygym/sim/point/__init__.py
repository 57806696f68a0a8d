"""The Point: dynamics in closed form, compiled."""
