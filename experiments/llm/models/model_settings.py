"""Configuration of the models that make and label candidate answers (source=synthetic, source=hub)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from experiments.support.config import require_choice, require_range
from experiments.support.errors import ConfigError

REFERENCE = Path(__file__).parents[1] / "reference"
MODELS = {"ai": "ai", "classifier": "classifier_base", "reward": "reward", "cost": "cost"}  # name -> folder's


@dataclass
class ModelsConfig:
    """folder: holds ai, classifier_base, reward, cost and ppo_lag_<limit>; None: the ones that come with the
    repository (synthetic). ai, classifier, reward, cost: a folder, the name of a model that comes with the
    repository or one on the hub instead; policies: the same for other policies, by name. prompts: of hub, a
    .jsonl(.gz) file or a data set's name.

    template, score_template: a prompt as the model sees it; None: the source's. labels: "cost_model" (c > 0)
    or "world" (drawn from the known P(harm)); label_noise: share of labels flipped. rewards: "reward_model"
    or "world" (known). temperature, top_p: of sampling. max_prompt_tokens, max_answer_tokens: longer ones
    are cut. batch: sequences at once; shard: prompts to a file. device: cpu, cuda, auto.
    """

    folder: str | None = None
    ai: str | None = None
    classifier: str | None = None
    reward: str | None = None
    cost: str | None = None
    policies: dict[str, str] = field(default_factory=dict)
    prompts: str | None = None
    template: str | None = None
    score_template: str | None = None
    labels: str = "cost_model"
    label_noise: float = 0.0
    rewards: str = "reward_model"
    temperature: float = 1.0
    top_p: float = 1.0
    max_prompt_tokens: int = 40
    max_answer_tokens: int = 24
    batch: int = 2048
    shard: int = 4096
    device: str = "cpu"
    precision: str = "float32"

    def validate(self) -> None:
        """Raises ConfigError for a value out of range."""
        require_choice("models.labels", self.labels, ("cost_model", "world"))
        require_choice("models.rewards", self.rewards, ("reward_model", "world"))
        require_choice("models.precision", self.precision, ("float32", "bfloat16"))
        require_range("models.label_noise", self.label_noise, low=0, high=0.499)
        require_range("models.temperature", self.temperature, low=1e-3)
        require_range("models.top_p", self.top_p, low=1e-3, high=1)
        for name in ("max_prompt_tokens", "max_answer_tokens", "batch", "shard"):
            require_range(f"models.{name}", getattr(self, name), low=1)

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
