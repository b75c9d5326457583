"""The devices that ship, and what is said of one that does not."""

import pytest

from nemo_plugins.configs import options
from nemo_plugins.planning import devices
from nemo_plugins.runs import UserError


@pytest.mark.parametrize("name", options("device"))
def test_every_device_loads_and_names_its_source(name):
    device = devices.load(name, "plan.device")
    assert device.source and 0 < device.usable_bytes < device.memory_bytes
    # a vendor's arithmetic and bandwidth in one unit: operations for each byte read: 100 to 400 of a GPU, one of a phone
    assert 1 < device.flops_per_second / device.bytes_per_second < 500


def test_units():
    device = devices.load("rtx4090", "plan.device")
    assert device.memory_bytes == 24 * 2**30
    assert device.bytes_per_second == 1008e9
    assert device.flops_per_second == 165.2e12


@pytest.mark.parametrize("name", ["rtx4080", "../platform/gpu", ""])
def test_an_unknown_device_lists_those_there_are(name):
    with pytest.raises(UserError, match=rf"plan.device=.*\n.*{', '.join(options('device'))}"):
        devices.load(name, "plan.device")


@pytest.mark.parametrize(
    ("name", "device"),
    [
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA A100-SXM4-40GB", "a100-40"),
        ("NVIDIA A100-SXM4-80GB", "a100-80"),
        ("NVIDIA GH200 480GB", "gh200"),  # which has "h200" in it
        ("NVIDIA L40S", "l40s"),
        ("NVIDIA GeForce RTX 4090", "rtx4090"),
        ("NVIDIA A100-SXM-64GB", None),
    ],
)
def test_a_gpu_is_known_by_what_cuda_calls_it(name, device):
    assert devices.named(name) == (devices.load(device, "gpu") if device else None)


def write(folder, text):
    (folder / "device").mkdir()
    (folder / "device" / "mine.yaml").write_text(text)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("usable: 0.9", "usable: 1.9"), "usable at most 1"),
        (("memory_gib: 24", "memory_gib: 0"), "memory_gib"),
        (("memory_gib: 24", "memory_gb: 24"), "memory_gb"),
        (("peak_tflops: 165.2", "peak_tflops: many"), "peak_tflops"),
    ],
)
def test_a_device_file_of_ones_own_is_checked(tmp_path, monkeypatch, change, says):
    text = (devices.CONF / "device" / "rtx4090.yaml").read_text()
    write(tmp_path, text.replace(*change))
    monkeypatch.setattr(devices, "CONF", tmp_path)
    monkeypatch.setattr(devices, "options", lambda group: ["mine"])
    with pytest.raises(UserError, match=says):
        devices.load("mine", "plan.device")
