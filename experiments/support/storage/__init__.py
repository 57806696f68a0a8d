"""A store of stages and tasks that several machines share: a folder, or objects behind a URL (docs/scale.md)."""
