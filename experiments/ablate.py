"""`python -m experiments ablate`: a grid of trainings with paired seeds, and what differs for the better."""

from collections.abc import Sequence
from pathlib import Path

from eval.config_files import find, load
from experiments.arms import Arm, arms_of, contrasts, read_base, resolved
from experiments.config import ABLATIONS, AblationConfig
from experiments.jobs import Job, alone_in, carry_out, require_unchanged, training
from experiments.report import write_ablation
from experiments.study import Court, Trainings, folder_of, require_same_reference
from toolkit.config import BaseConfig


def ablate(name: str, output: Path | None = None) -> Sequence[str]:
    """Train what is not trained, draw, judge and write the report. What failed, in words.

    Args:
        name: Of a file of configs/ablations/, or a path.
        output: For everything; None is runs/ and the file's name.

    Raises:
        ToolkitError: A mistake in the configuration, or another configuration than the one it was begun with.
        SystemExit: A signal asked for it; the same command goes on.
    """
    config = load(AblationConfig, name, ABLATIONS)
    title = find(name, ABLATIONS).stem
    output = output or Path("runs") / title
    arms = arms_of(config)
    trainings, configs = _trainings(config, arms, title, output)
    require_same_reference({arm: each.data for arm, each in configs.items()})
    require_unchanged(list(trainings.values()))
    court = Court(config.judge, configs[arms[0].name].data, config.seeds[0])
    court.require_same_pictures(trainings.values())
    with alone_in(output) as lock:
        failures = list(carry_out(list(trainings.values()), lock).values())
        write_ablation(court.study(title, config, trainings, contrasts(arms), failures), output)
    return failures


def _trainings(
    config: AblationConfig, arms: Sequence[Arm], title: str, output: Path
) -> tuple[Trainings, dict[str, BaseConfig]]:
    """Every arm with every seed, and the configuration of each arm with the first."""
    base = read_base(config.base)
    trainings: dict[tuple[str, int], Job] = {}
    configs: dict[str, BaseConfig] = {}
    # Seed by seed, so that an experiment that is stopped early has whole pairs.
    for seed in config.seeds:
        for arm in arms:
            folder = folder_of(output, arm.name, seed)
            resolved_config = resolved(base, arm.overrides, seed, folder, f"{title}, arm {arm.name}")
            configs.setdefault(arm.name, resolved_config)
            trainings[arm.name, seed] = training(f"{arm.name}, seed {seed}", folder, resolved_config)
    return trainings, configs
