"""What every distillation shares: in `live` the teacher runs beside the student, in `cached` its logits come from files."""

from __future__ import annotations

from nemo_plugins import runs
from nemo_plugins.configs.schema import LossConfig, Recipe
from nemo_plugins.distillation.watch import LogitsWatch
from nemo_plugins.models import nemo
from nemo_plugins.reporting.first_result import TOKENS
from nemo_plugins.runs import sizes
from nemo_plugins.training import generations
from nemo_plugins.training.training import Training

PAPER = (1.12, 0.89)  # first and last loss of Bielik-11B's distillation (arXiv 2603.11881)


class Distillation(Training):
    """Trains the run's student towards its frozen teacher."""

    key = "distill"
    validate_first = True
    teacher_is: str  # for the report
    watch: LogitsWatch

    def __init__(self, cfg: Recipe, run: runs.Run):
        super().__init__(cfg, run)
        self.teacher = run.input(runs.teacher(cfg))
        self.source = run.input(runs.student(cfg))
        self.tokenizer = nemo.checkpoint_tokenizer(self.source)
        self.model = sizes.student(cfg)
        self.watch = LogitsWatch()
        self.loss = cfg.distill.loss
        self.paper = PAPER if cfg.model.name == "bielik11b" and self.loss == LossConfig() else None

    def callbacks(self, common: list) -> list:
        plain = self.tokenizer.tokenizer
        prompts = {prompt: plain(prompt).input_ids for prompt in self.cfg.distill.prompts}
        return [*generations.of(self.cfg, self.run.folder, prompts, {plain.eos_token_id}, plain, TOKENS), *common]

    def sections(self, plots, lines) -> list:
        return generations.section(self.run.folder)

    def facts(self) -> dict:
        loss, model = self.loss, self.cfg.model
        tokens = f"top_k {loss.top_k or 'all'}" if loss.draws is None else f"{loss.draws} draws (an unbiased estimate)"
        return {
            "teacher": f"{model.name}, {runs.architecture(model).parameters():,} parameters, {self.teacher_is}",
            "student": f"{self.model.parameters():,} parameters",
            "loss": f"{loss.kind}, temperature {loss.temperature:g}, {tokens}, alpha {loss.alpha:g}",
        }

    def metrics(self, first, last, validated) -> dict:
        lines = self.run.read_metrics()
        return {
            "kd_loss_first": first["kd_loss"],
            "kd_loss_last": last["kd_loss"],
            # on the held-out windows of the run; None where the teacher does not run on them
            "teacher_val_loss": next((line["teacher_val_loss"] for line in lines if "teacher_val_loss" in line), None),
            "val_loss_first": validated.get(0),
        }
