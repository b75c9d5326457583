"""What every run has: its folder, its loggers, its chain. Shapes of the configuration; see `schema`."""

from __future__ import annotations

from dataclasses import dataclass, field

from omegaconf import MISSING


@dataclass
class RunConfig:
    name: str | None = None  # <model> or <model>-<experiment>
    root: str = "runs"
    stage: str | None = None  # folder inside the run; default: the recipe's own name
    seed: int = 1234

    def __post_init__(self) -> None:
        self.typed: tuple[str, ...] = ()  # overrides of the command line, no key: what the next command is to keep


@dataclass
class LoggerConfig:
    tensorboard: bool = True
    wandb_project: str | None = None  # Weights & Biases; the key comes from WANDB_API_KEY
    mlflow_uri: str | None = None  # MLflow's tracking server or folder; credentials come from its own environment variables


@dataclass
class StageConfig:
    """One stage of a chain: the recipe that runs it and what it is told beyond the chain's own overrides."""

    name: str = MISSING  # run folder
    recipe: str = MISSING  # file in recipes/
    overrides: list[str] = field(default_factory=list)
    needs: list[str] = field(default_factory=list)  # keys of data; where none of them is given, the stage is left out
    after: list[str] = field(default_factory=list)  # stages; where all of them are left out, so is this one
    what: str = ""  # one line for the plan


@dataclass
class ExperimentConfig:
    name: str | None = None
    models: list[str] = field(default_factory=list)  # the models that it is for
    stages: list[StageConfig] = field(default_factory=list)


@dataclass
class PathConfig:
    path: str | None = None  # NeMo checkpoint or Hugging Face folder; default: what the earlier stage of the same run left
