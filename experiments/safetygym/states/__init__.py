"""Labelled states: collecting them, braking from them, reading hazards back from the lidar."""
