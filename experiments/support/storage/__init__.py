"""A store of stages and tasks that machines share: a folder, or objects behind a URL (docs/scale.md)."""
