"""One experiment on many cores or machines: stages as lists of tasks whose results are files (docs/scale.md)."""
