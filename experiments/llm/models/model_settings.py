"""Configuration of the models that make and label candidate answers (source=synthetic, source=hub)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from experiments.support.errors import ConfigError
from experiments.support.settings import setting

REFERENCE = Path(__file__).parents[1] / "reference"
MODELS = {"ai": "ai", "classifier": "classifier_base", "reward": "reward", "cost": "cost"}  # name -> folder's


@dataclass
class ModelsConfig:
    """The models that make and label candidate answers (source=synthetic, source=hub)."""

    folder: str | None = setting(
        None,
        "Folder that holds the models ai, classifier_base, reward, cost and ppo_lag_<limit>; null takes "
        "those that come with the repository (synthetic) or the paper's (hub).",
    )
    ai: str | None = setting(
        None,
        "The model behind the guard: its folder, one that comes with the repository, or a name on the hub.",
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
        None, "Prompts of source=hub: a .jsonl(.gz) file or a data set's name; null is PKU-SafeRLHF."
    )
    template: str | None = setting(
        None,
        "Text around a prompt, {prompt}, as the model behind the guard sees it; null is the source's own.",
    )
    score_template: str | None = setting(
        None,
        "Text around a prompt, {prompt}, as the reward and cost models see it; null is the source's own.",
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
    max_prompt_tokens: int = setting(
        40, "Longest prompt in tokens; the beginning of a longer one is cut, and counted.", low=1
    )
    max_answer_tokens: int = setting(24, "Tokens after which an answer ends, its end included.", low=1)
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

    def files(self, shipped: bool) -> dict[str, str]:
        """Weights of the models that lie in folders, by their configuration key; shipped: models that are not
        configured are the ones that come with the repository.
        """
        defaults = {name: str(REFERENCE / folder) for name, folder in MODELS.items()} if shipped else {}
        given = {name for name in MODELS if getattr(self, name) or self.folder or name in defaults}
        paths = {f"models.{name}": Path(self.place(name, defaults)) / "model.safetensors" for name in given}
        return {key: str(path) for key, path in sorted(paths.items()) if path.is_file()}
