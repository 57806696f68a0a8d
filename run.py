"""The one entry: compose a configuration, check it, run the experiment, leave its results in results/runs.

python run.py experiment=production r_t=1e-3 preset=laptop data=synthetic seed=0
python run.py -m +sweep=figure-2                     # a sweep; what is done is skipped
python run.py -m launcher=joblib seed=0,1,2,3,4      # in parallel on this machine
"""

import sys

import hydra
from omegaconf import DictConfig

from experiments.support import entry


@hydra.main(config_path="configs", config_name="config", version_base="1.3")
def compose_and_run(config: DictConfig) -> None:
    entry.execute(config)


if __name__ == "__main__":
    sys.exit(entry.main(compose_and_run))
