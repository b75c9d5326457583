"""Completions from the training weights in place, by Megatron's inference wrapper and key-value cache, at any TP, PP and DP.

What NeMo lacks: its own loop (`inference.generate`) tells log-probabilities at temperature 1 whatever it samples at, encodes a
group's prompt once for each completion, and steps on for rows that have long ended.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from megatron.core import parallel_state
from megatron.core.inference.contexts import StaticInferenceContext
from megatron.core.inference.model_inference_wrappers.gpt.gpt_inference_wrapper import GPTInferenceWrapper
from megatron.core.inference.model_inference_wrappers.inference_wrapper_config import InferenceWrapperConfig
from torch import Tensor, distributed

from nemo_plugins.alignment.rollouts import Completion, Request
from nemo_plugins.alignment.rollouts.sampling import draw
from nemo_plugins.training.generations import generating


class MegatronEngine:
    """Draws from Megatron's model as it stands; whatever hook scales its logits scales what is drawn from.

    Args:
        model: Megatron's GPT model without wrappers; this stage of a pipeline.
        ends: tokens that end a completion.
        batch: completions at a time; their keys and values are in memory together.
    """

    on_policy = fresh = True
    age = 0

    def __init__(self, model, ends: Collection[int], batch: int):
        self.model, self.batch = model, batch
        self.local = self
        self.ends = torch.tensor(sorted(ends), device=torch.cuda.current_device())

    def refresh(self, rollout: int, updates: int) -> None:
        """The weights are in place."""

    @torch.no_grad()
    def complete(self, requests: Sequence[Request], greedy: bool = False) -> list[Completion]:
        """One completion each, in order. Prompts of like length go together, equal ones are encoded once."""
        completions: dict[int, Completion] = {}
        order = sorted(range(len(requests)), key=lambda i: (len(requests[i].ids), requests[i].ids))
        with generating(self.model):
            for at in range(0, len(order), self.batch):
                part = order[at : at + self.batch]
                completions |= zip(part, self._batch([requests[i] for i in part], greedy), strict=True)
        return [completions[i] for i in range(len(requests))]

    def _batch(self, requests: list[Request], greedy: bool) -> list[Completion]:
        device = torch.cuda.current_device()
        prompts = list(dict.fromkeys(request.ids for request in requests))
        which = torch.tensor([prompts.index(request.ids) for request in requests], device=device)
        lengths = torch.tensor([len(request.ids) for request in requests], device=device)
        most = torch.tensor([len(request.uniforms) for request in requests], device=device)
        numbers = torch.zeros(len(requests), int(most.max()), dtype=torch.float64, device=device)
        for row, request in enumerate(requests):
            numbers[row, : len(request.uniforms)] = torch.from_numpy(request.uniforms)
        shortest, room = int(lengths.min()), int((lengths + most).max())
        tokens = torch.zeros(len(requests), room, dtype=torch.long, device=device)
        for row, request in enumerate(requests):
            tokens[row, : len(request.ids)] = torch.tensor(request.ids)
        told = torch.zeros(2, len(requests), room, dtype=torch.float32, device=device)  # log-probabilities, entropies

        wrapper = self._wrapper(len(prompts), room)
        first = torch.tensor([prompt[:shortest] for prompt in prompts], device=device)
        logits = self._step(wrapper, first, 0)
        _rows(wrapper.inference_context, which, len(requests))
        logits = None if logits is None else logits[which]
        active, ended, count = torch.arange(len(requests), device=device), lengths + most, lengths + most
        open_ = torch.ones(len(requests), dtype=torch.bool, device=device)
        for place in range(shortest, room):
            given = place < lengths[active]
            nth = (place - lengths[active]).clamp(0, numbers.shape[1] - 1)  # rows before their end or after it draw, too
            drawn = self._drawn(logits, numbers[active, nth], greedy, len(active))
            new = torch.where(given, tokens[active, place], drawn[0].long())
            tokens[active, place] = new
            told[:, active, place] = drawn[1:].float()
            stop = ~given & (torch.isin(new, self.ends) | (place + 1 == count[active])) & open_[active]
            ended[active[stop]] = place + 1
            open_[active[stop]] = False
            left = int(open_.sum())
            if not left:
                break
            if 4 * left <= 3 * len(active):  # most of a batch ends long before its last row does
                keep = open_[active].nonzero().squeeze(-1)
                _rows(wrapper.inference_context, keep, len(keep))
                active, new = active[keep], new[keep]
            logits = self._step(wrapper, new.unsqueeze(-1), place)
        return self._completions(requests, tokens, told, ended)

    def _completions(self, requests, tokens: Tensor, told: Tensor, ended: Tensor) -> list[Completion]:
        tokens, told, stops, made = tokens.tolist(), told.cpu(), ended.tolist(), []
        ends = set(self.ends.tolist())
        for row, request in enumerate(requests):
            part = slice(len(request.ids), stops[row])
            ids = tokens[row][part]
            made.append(
                Completion(ids, told[0, row, part].tolist(), told[1, row, part].tolist(), bool(ids) and ids[-1] in ends)
            )
        return made

    def _wrapper(self, rows: int, room: int) -> GPTInferenceWrapper:
        config = InferenceWrapperConfig(
            hidden_size=self.model.config.hidden_size,
            params_dtype=self.model.config.params_dtype,
            inference_batch_times_seqlen_threshold=-1,
            padded_vocab_size=self.model.vocab_size,
            inference_max_requests=rows,
            inference_max_seq_length=room,
            fp32_residual_connection=self.model.config.fp32_residual_connection,
        )
        wrapper = GPTInferenceWrapper(self.model, config, StaticInferenceContext(rows, room))
        wrapper.prep_model_for_inference()
        return wrapper

    def _step(self, wrapper: GPTInferenceWrapper, tokens: Tensor, place: int) -> Tensor | None:
        """Logits after the last token, `[b, v]`; None on all but a pipeline's last stage."""
        size = tokens.shape[1]
        positions = torch.arange(place, place + size, device=tokens.device).expand_as(tokens)
        if place:
            wrapper.inference_context.enable_decode_mode()
        logits = wrapper.run_one_forward_step({"tokens": tokens, "position_ids": positions, "attention_mask": None})
        return None if logits is None else logits[:, -1].float()

    def _drawn(self, logits: Tensor | None, numbers: Tensor, greedy: bool, rows: int) -> Tensor:
        """Tokens, log-probabilities and entropies, float64 `[3, b]`, the same on every process of the model."""
        if logits is None:
            found = torch.zeros(3, rows, dtype=torch.float64, device=numbers.device)
        else:
            found = torch.stack([x.double() for x in draw(logits, None if greedy else numbers)])
        if parallel_state.get_tensor_model_parallel_world_size() > 1 and parallel_state.is_pipeline_last_stage():
            source = parallel_state.get_tensor_model_parallel_src_rank()
            distributed.broadcast(found, source, group=parallel_state.get_tensor_model_parallel_group())
        if parallel_state.get_pipeline_model_parallel_world_size() > 1:
            last = parallel_state.get_pipeline_model_parallel_last_rank()
            distributed.broadcast(found, last, group=parallel_state.get_pipeline_model_parallel_group())
        return found


def _rows(context: StaticInferenceContext, rows: Tensor, count: int) -> None:
    """Keep, or repeat, these rows of the cache."""
    for layer, memory in context.key_value_memory_dict.items():
        context.key_value_memory_dict[layer] = tuple(each[:, rows] for each in memory)
    context.max_batch_size = count
