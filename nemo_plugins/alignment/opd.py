"""On-policy distillation: the teacher's distribution at every token of what the student itself has drawn.

GKD's objective (arXiv 2306.13649, section 3), λ = `opd.share`, D = `opd.loss.kind`, no gradient through the drawing:

    (1 − λ) · E[D(teacher ‖ student)(y|x)] over the data's (x, y)
        + λ · E[D(teacher ‖ student)(y|x)] over the data's x, y ~ student(·|x)

D of an answer is the mean over its tokens there; here it is the mean over all tokens of an update, as in every distillation of
this repository, so that a long answer counts by its tokens. What NeMo lacks: its distillation knows texts only.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from nemo_plugins import runs
from nemo_plugins.alignment.grpo_batch import Rows
from nemo_plugins.alignment.objective import Batch, Measure, install_objective
from nemo_plugins.alignment.opd_rollout import DistillationRollouts, HeldoutSamples
from nemo_plugins.alignment.policy import PolicyTraining
from nemo_plugins.alignment.rewards.scoring import Scorer
from nemo_plugins.alignment.rollouts.megatron import MegatronEngine
from nemo_plugins.configs.schema import LossConfig, Recipe
from nemo_plugins.data.chat import prompts as chat_prompts
from nemo_plugins.distillation import live
from nemo_plugins.distillation.losses import kd_loss, masked_sum
from nemo_plugins.planning import grpo_plan, opd_plan, work
from nemo_plugins.training import generations
from nemo_plugins.training.metric_sums import MetricSums
from nemo_plugins.training.vocabulary_parallel import best, vocabulary_group

METRICS = ("loss", "agreement")


def measure(loss: LossConfig, logits: Callable[[], tuple[Tensor, Tensor]]) -> Measure:
    """The loss of a micro-batch `[b, s]`, summed over its completions' tokens, and the sums of what is watched.

    Held-out completions have the reverse KL at temperature 1 for a loss, whatever is trained: of the student's own samples its
    mean estimates the divergence of whole answers, and it is what several losses can be compared by.

    Args:
        logits: gives those of student and teacher for the batch, `[s, b, v/tp]` each.
    """

    def of(batch: Batch, _logp: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        student, teacher = logits()
        mask, group = batch["loss_mask"], vocabulary_group()
        if bool(batch["heldout"][0]):
            each = kd_loss(student, teacher, kind="reverse_kl", group=group)
        else:
            each = kd_loss(
                student, teacher, kind=loss.kind.value, temperature=loss.temperature, top_k=loss.top_k, skew=loss.skew,
                group=group,
            )  # fmt: skip
        total, count = masked_sum(each.transpose(0, 1), mask)
        agrees = (best(student.detach(), group) == best(teacher, group)).to(each.dtype)
        return total, count, {"loss": total, "agreement": masked_sum(agrees.transpose(0, 1), mask)[0]}

    return of


class OnPolicyDistillation(PolicyTraining):
    """Trains the student towards its frozen teacher on its own answers to the prompts of `opd.data`."""

    key = "opd"
    validate_first = True

    def __init__(self, cfg: Recipe, run: runs.Run):
        super().__init__(cfg, run)
        opd, grpo, options = cfg.opd, cfg.grpo, grpo_plan.options(cfg)
        self.teacher = run.input(runs.teacher(cfg))
        for own in grpo.own_rewards.values():
            run.input(Path(own.rpartition(":")[0]))
        self.prompts, self.rows = {}, {}
        for name in ("data", "heldout"):
            self.prompts[name], self.rows[name] = chat_prompts.load(
                self.files(name), self.template, opd_plan.checker(cfg, name), key=f"opd.{name}", policy=opd.bad_rows.value,
                longest=opd.seq_length - opd.max_tokens, items=self.items if name == "data" else None,
            )  # fmt: skip
            if not self.prompts[name]:
                became = f"what became of its rows: {self.rows[name]}"
                raise runs.UserError(f"opd.{name} holds no prompt that can be used", became)
        self.counts = {"prompts": len(self.prompts["data"]), "heldout_prompts": len(self.prompts["heldout"])}
        batch = opd.global_batch_size
        self.samples = Rows(
            (opd.max_steps + 1) * batch, batch, batch, 1, cfg.run.seed, self.template.pad, 8 * cfg.platform.tensor_parallel
        )
        self.heldout = HeldoutSamples(self.samples, len(self.prompts["heldout"]))
        mean_prompt = sum(len(prompt.ids) for prompt in self.prompts["data"]) / len(self.prompts["data"])
        self.tokens_per_step = batch * (mean_prompt + opd.max_tokens)  # the longest completion
        self.watch = MetricSums(METRICS, heldout={"loss": "val_loss", "agreement": "val_agreement"})
        scorer = Scorer(grpo.rewards, options, grpo.own_rewards)
        self.rollouts = DistillationRollouts(
            cfg, run, self.prompts, self.samples, self.decode, self.heldout, scorer, self.engine
        )

    def decode(self, ids: list[int]) -> str:
        """A completion's words."""
        return self.tokenizer.tokenizer.decode(ids, skip_special_tokens=True)

    def engine(self, megatron_model, _lightning_trainer) -> MegatronEngine:
        """What draws the completions."""
        return MegatronEngine(megatron_model, self.template.ends, self.cfg.opd.rollout_batch)

    def flops_per_token(self) -> float:
        return work.flops_per_token(self.train, self.model, runs.architecture(self.cfg.model))

    def start(self, **parts) -> None:
        live.distill(self, self.teacher, self.both, parts)

    def both(self, *args, **kwargs) -> live.TeacherAndStudent:
        """NeMo's module of both models, with the loss of this training."""
        module = live.TeacherAndStudent(*args, **kwargs)
        module.logits_loss = self.cfg.opd.loss

        def logits() -> tuple[Tensor, Tensor]:
            kept = live.logits(module.core_module)
            live.forget(module.core_module)
            return kept

        install_objective(module, measure(self.cfg.opd.loss, logits), self.watch)
        return module

    def callbacks(self, common: list) -> list:
        return [*common, self.rollouts]  # last: a checkpoint that is due is written before a rollout

    def facts(self) -> dict:
        opd, loss, model = self.cfg.opd, self.cfg.opd.loss, self.cfg.model
        return {
            "teacher": f"{model.name}, {runs.architecture(model).parameters():,} parameters, live",
            "student": f"{self.model.parameters():,} parameters",
            "loss": f"{loss.kind}, temperature {loss.temperature:g}, top_k {loss.top_k or 'all'}",
            "batch": f"{opd.global_batch_size:,} completions of at most {opd.max_tokens:,} tokens",
            "on-policy batches": f"{opd.share:.0%}; the others have the answers of the data",
            "held-out loss": "KL(student ‖ teacher) a token of the student's own samples, nats",
        }

    def sections(self, plots, lines) -> list:
        return generations.section(self.run.folder)

    def outputs(self) -> dict:
        return {"rollouts": self.run.folder / "rollouts"}

    def metrics(self, first, last, validated) -> dict:
        lines = list(self.run.read_metrics()) if self.run.is_writer else []
        solved = [line["val_accuracy"] for line in lines if "val_accuracy" in line] or [None]
        agrees = [line["val_agreement"] for line in lines if "val_agreement" in line] or [None]
        return {
            "first": validated[min(validated)],
            "last": validated[max(validated)],
            "loss_first": first["loss"],
            "loss_last": last["loss"],
            "accuracy_first": solved[0],
            "accuracy_last": solved[-1],
            "agreement_first": agrees[0],
            "agreement_last": agrees[-1],
            "reward_failures": sum(self.rollouts.scorer.failures.values()),
        }
