"""Our losses beside TRL's own code on the same numbers; TRL is not among our requirements, so skipped where it is absent."""

from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest
import torch

from nemo_plugins.alignment.losses import dpop_loss, group_advantages, grpo_loss, preference_loss
from nemo_plugins.configs.alignment import GroupLoss

pytest.importorskip("trl", reason="needs trl: the closed forms of test_alignment_losses.py stand without it")
try:
    from trl.trainer.dpo_trainer import DPOTrainer
    from trl.trainer.grpo_trainer import GRPOTrainer
except Exception as error:  # TRL is strict about the versions beside it
    pytest.skip(f"trl does not import here: {error}", allow_module_level=True)

B, T = 3, 7


def draw(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def trl_dpo(kind, beta, policy, reference, mask):
    """TRL's loss and its gradient with respect to the policy's token log-probabilities, `[2 B, T]`, chosen ones first."""
    policy = policy.clone().requires_grad_()
    trainer = MagicMock(beta=beta, loss_types=[kind], loss_weights=[1.0], f_divergence_type="reverse_kl", ld_alpha=None)
    trainer.aux_loss_enabled = trainer.precompute_ref_logps = trainer.use_weighting = False
    trainer.ref_model = lambda **_: SimpleNamespace(log_probs=reference * mask)
    trainer.accelerator.device = "cpu"
    whole = torch.cat([torch.zeros(2 * B, 1, dtype=mask.dtype), mask], 1)
    inputs = {"input_ids": torch.zeros_like(whole), "completion_mask": whole, "attention_mask": whole}
    zeros = torch.zeros(2 * B, T)  # of its metrics
    outputs = SimpleNamespace(log_probs=policy * mask, mean_logits=zeros, entropy=zeros, is_top1=zeros.bool())
    trainer.accelerator.gather_for_metrics = trainer.accelerator.gather = trainer.accelerator.reduce = lambda x, *_, **__: x
    loss = DPOTrainer._compute_loss(trainer, lambda **_: outputs, inputs, False)
    loss.backward()
    return loss.item(), policy.grad


@pytest.mark.parametrize("kind", ["sigmoid", "ipo"])
@pytest.mark.parametrize("beta", [0.05, 0.5])
def test_dpo_is_trls(kind, beta):
    mask = (draw(2 * B, T, seed=3) > -0.7).long()
    policy, reference = (-draw(2 * B, T, seed=i).abs() for i in (1, 2))
    want, want_gradient = trl_dpo(kind, beta, policy, reference, mask)
    policy.requires_grad_()
    (w, loser), (ref_w, ref_l) = ((x * mask).sum(-1).chunk(2) for x in (policy, reference))
    if kind == "sigmoid":
        loss = dpop_loss(w, loser, ref_w, ref_l, beta=beta, lam=0.0).mean()
    else:
        tokens_w, tokens_l = mask.sum(-1).chunk(2)
        loss = preference_loss("ipo", w, loser, ref_w, ref_l, beta=beta, tokens_w=tokens_w, tokens_l=tokens_l).mean()
    loss.backward()
    assert loss.item() == pytest.approx(want, abs=1e-5)
    torch.testing.assert_close(policy.grad, want_gradient, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", GroupLoss)
@pytest.mark.parametrize("kl_coef", [0.0, 0.04])
def test_grpo_is_trls(kind, kl_coef):
    lp, old, ref = (-draw(B, T, seed=i).abs() for i in (4, 5, 6))
    mask = (draw(B, T, seed=7) > -0.7).long()
    advantages = group_advantages(draw(B, seed=8), B)
    theirs, ours = lp.clone().requires_grad_(), lp.clone().requires_grad_()
    clip_low, clip_high = (1.0, 0.28) if kind == "cispo" else (0.2, 0.28)  # TRL's cispo has no lower bound, and 1.28 as upper
    trainer = MagicMock(beta=kl_coef, epsilon_low=clip_low, max_completion_length=50, use_vllm=False)
    trainer.loss_type = "grpo" if kind == "gspo" else kind.value
    trainer.epsilon_high = 1 + clip_high if kind == "cispo" else clip_high
    trainer._get_per_token_logps_and_entropies.return_value = (theirs, torch.zeros(B, T), None)
    trainer.importance_sampling_level = "sequence" if kind == "gspo" else "token"
    trainer.top_entropy_quantile, trainer.off_policy_mask_threshold = 1.0, None
    trainer.args = SimpleNamespace(delta=None, use_bias_correction_kl=False, steps_per_generation=1)
    trainer.accelerator.num_processes = 1
    trainer.aux_loss_enabled = trainer._entropy_bonus_enabled = False
    trainer.current_gradient_accumulation_steps, trainer.model.training = 1, True
    trainer.accelerator.gather = lambda x: x
    prompts = torch.ones(B, 2, dtype=torch.long)
    inputs = {"prompt_ids": prompts, "prompt_mask": prompts, "completion_ids": mask, "completion_mask": mask}
    inputs |= {"advantages": advantages, "old_per_token_logps": old, "ref_per_token_logps": ref}
    inputs["num_items_in_batch"] = mask.sum()
    want = GRPOTrainer._compute_loss(trainer, None, inputs)
    want.backward()
    options = {"clip_low": clip_low, "clip_high": clip_high, "kl_coef": kl_coef, "max_tokens": 50}
    loss = grpo_loss(ours, old, ref, advantages, mask, kind=kind, **options)
    loss.backward()
    assert loss.item() == pytest.approx(want.item(), abs=1e-5)
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-5, atol=1e-6)
