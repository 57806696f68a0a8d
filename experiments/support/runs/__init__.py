"""Runs: directories, stages and their caches, checkpoints, fingerprints of code."""
