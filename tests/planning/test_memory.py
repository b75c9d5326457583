"""The memory estimates against hand-made sums."""

from dataclasses import replace

import pytest

from nemo_plugins.configs.schema import PlatformConfig
from nemo_plugins.planning import memory
from nemo_plugins.runs import architecture
from nemo_plugins.runs.prepare import compose


def test_training_state_is_18_bytes_a_parameter_in_bf16_plus_the_teachers_2():
    cfg = compose(["+model=bielik11b"])
    teacher = architecture(cfg.model)
    student = teacher.with_sizes(num_layers=40, ffn_hidden_size=11264)
    need = memory.training(student, cfg.distill, PlatformConfig(), 2, teacher)
    assert need.weights + need.gradients + need.optimizer == 18 * 7_477_727_232
    assert need.teacher == 2 * 11_168_796_672


def test_parallelism_shares_what_it_shares():
    cfg = compose(["+model=bielik11b"])
    student = architecture(cfg.model)
    alone = memory.training(student, cfg.distill, PlatformConfig(), 2)
    tensor = memory.training(student, cfg.distill, PlatformConfig(devices=4, tensor_parallel=4), 2)
    data = memory.training(student, cfg.distill, PlatformConfig(devices=4), 2)
    assert tensor.total == pytest.approx(alone.total / 4)
    assert (data.weights, data.gradients, data.optimizer) == (alone.weights, alone.gradients, alone.optimizer / 4)

    context = memory.training(student, cfg.distill, PlatformConfig(devices=4, context_parallel=4), 2)
    assert (context.weights, context.optimizer) == (alone.weights, alone.optimizer / 4)
    assert context.activations == pytest.approx(alone.activations / 4)


def test_a_whole_optimizer_is_on_each_copy_of_the_model():
    cfg = compose(["+model=bielik11b", "experiment=minitron_7b"])
    student = architecture(cfg.model).with_sizes(cfg.prune)
    shared = memory.training(student, cfg.distill, cfg.platform, 2)
    whole = memory.training(student, cfg.distill, cfg.platform, 2, sharded=False)
    assert whole == replace(shared, optimizer=4 * shared.optimizer)  # copies of the model


def test_adapters_have_the_optimizers_state_alone():
    cfg = compose(["+model=bielik11b", "sft.lora.dim=16"])
    need = memory.training(architecture(cfg.model), cfg.sft, PlatformConfig(), 2)
    assert need.optimizer == need.gradients == 0 < need.weights


def test_the_papers_chain_fits_its_gpus_as_configured():
    cfg = compose(["+model=bielik11b", "experiment=minitron_7b"])
    teacher = architecture(cfg.model)
    student = teacher.with_sizes(cfg.prune)
    need = memory.training(student, cfg.distill, cfg.platform, 2, teacher).total
    assert need < cfg.platform.gpu_memory_gib * 2**30
    assert memory.data_parallel(cfg.platform) == 4


def test_compensation_takes_the_moments_of_the_layers_that_a_process_keeps():
    teacher = architecture(compose(["+model=bielik11b"]).model)
    one, five = (memory.ffn_moments(teacher, 40, PlatformConfig(devices=n, pipeline_parallel=n)) for n in (1, 5))
    assert one == (40 * 4 + 3 * 8) * 14336**2 and five == (10 * 4 + 3 * 8) * 14336**2


def test_a_conversion_holds_both_copies():
    model = architecture(compose(["+model=bielik11b"]).model)
    assert memory.conversion(model, 2) == 4 * 11_168_796_672
