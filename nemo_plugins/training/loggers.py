"""Where the metrics of a training go beside `metrics.jsonl`: TensorBoard, Weights & Biases, MLflow."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from nemo_plugins import runs
from nemo_plugins.configs.schema import Recipe


def build(cfg: Recipe, folder: Path, stage: str) -> list:
    """Lightning's loggers that `logger` asks for; keys and tokens come from the environment (WANDB_API_KEY, MLFLOW_…).

    Raises:
        runs.UserError: the package of one of them is not installed.
    """
    from lightning.pytorch import loggers

    made = []
    if cfg.logger.tensorboard:
        made.append(loggers.TensorBoardLogger(save_dir=str(folder), name="tensorboard", version=""))
    name = f"{cfg.run.name}/{stage}"
    if cfg.logger.wandb_project:
        need("wandb", "logger.wandb_project")
        # the id makes a resumed stage go on with the same curves
        identity = name.replace("/", "-")
        made.append(loggers.WandbLogger(project=cfg.logger.wandb_project, name=name, id=identity, save_dir=str(folder)))
    if cfg.logger.mlflow_uri:
        need("mlflow", "logger.mlflow_uri")
        made.append(loggers.MLFlowLogger(experiment_name=str(cfg.run.name), run_name=stage, tracking_uri=cfg.logger.mlflow_uri))
    return made


def need(package: str, key: str) -> None:
    """Raises runs.UserError where `package` is not installed."""
    if find_spec(package) is None:
        raise runs.UserError(f"{key} asks for {package}, which is not installed", f"pip install {package}, or {key}=null")
