"""One experiment on many cores or machines: stages as tasks whose results are files (docs/scale.md)."""
