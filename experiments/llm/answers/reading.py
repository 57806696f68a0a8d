"""How a decoder reads conversations as the classification model: tokenizer, template, lengths, precision."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

from experiments.llm.models import language_model
from experiments.llm.models.language_model import load_tokenizer
from experiments.llm.models.model_settings import ModelsConfig, model_files
from experiments.llm.models.runtime import Runtime
from experiments.llm.models.sources import model_folder
from experiments.llm.models.tokenizer import PKU_TEMPLATE, Template, template_of
from experiments.support.files import input_checksum
from experiments.support.runs.running import RunContext


class DecoderTexts:
    """What `guard.backends.DecoderBackend` asks of a source; a base of sources."""

    models: ModelsConfig
    context: RunContext
    runtime: Runtime
    max_prompt: int
    max_answer: int

    def place(self, name: str) -> str:
        """Folder or name on the hub of a model."""
        return self.models.place(name, self.default_models(name))

    def default_models(self, name: str) -> dict[str, str]:
        """Where a model is if the configuration does not say."""
        return {}

    @cached_property
    def tokenizer(self) -> Any:
        """The classification model's own."""
        return load_tokenizer(self.place("classifier"))

    @cached_property
    def classifier_template(self) -> Template:
        """What stands around a prompt for the classification model; see models.template."""
        return template_of(self.tokenizer, self.models.template, PKU_TEMPLATE)

    @property
    def longest(self) -> int:
        """Longest conversation that the classification model reads, in tokens."""
        return self.max_prompt + self.max_answer

    @property
    def margin_rows(self) -> int:
        """Texts that the classification model judges at once."""
        return 512 if self.runtime.device.type == "cuda" else 64

    def reading(self, micro: int | None) -> tuple[str, int]:
        """(type that the classification model computes in, texts it reads at once in training)."""
        return self.models.precision, micro or (256 if self.runtime.device.type == "cuda" else 64)

    def classifier_model(self) -> Any:
        """What the classification model is fine-tuned from: a sequence classifier with two outputs."""
        from transformers import AutoModelForSequenceClassification

        name = self.place("classifier")
        with language_model.loading(name):
            model = AutoModelForSequenceClassification.from_pretrained(model_folder(name), num_labels=2)
        language_model.require_fit(model, self.tokenizer, name)
        return model.to(self.runtime.device).eval()

    def classifier_identity(self) -> Any:
        """What that model is, for caches."""
        return identity_of(self.place("classifier"))


def identity_of(name: str) -> str | dict[str, str]:
    """What a model is, for caches: checksums of its files, or the hub's name and cached commit."""
    folder = Path(name)
    if folder.is_dir():
        files = sorted(
            file
            for kind in ("*.json", "*.safetensors", "*.jinja", "*.model")
            for file in (*folder.glob(kind), *folder.glob(f"fold_*/{kind}"))
        )
        return {str(path.relative_to(folder)): input_checksum(path) for path in files}
    if files := model_files(name, name):
        return {key: input_checksum(path) for key, path in files.items()}
    from transformers.utils import cached_file

    with language_model.loading(name):
        path = cached_file(name, "config.json")
    commit = Path(path or "").parent.name
    return f"{name}@{commit}"
