"""The Car: dynamics by MuJoCo, and compiled for the bare floor."""
