"""How long a stage takes on a CPU: arithmetic over a rate that this CPU shows. An estimate, good to a factor of two."""

from __future__ import annotations

from nemo_plugins.configs.schema import Precision, Recipe
from nemo_plugins.planning import checks
from nemo_plugins.planning.plan import Table
from nemo_plugins.platforms import arithmetic
from nemo_plugins.runs import output, workers

START = 20.0  # seconds of NeMo's import, and of what a stage reads and writes; measured on two cores
# Of the rate of a plain fp32 product. Measured on an AMD EPYC with AVX512_BF16, where that is 44e9 FLOP a second of one core: a
# training step of small matrices reaches 20e9 in fp32, 50e9 in bf16
SHARES = {Precision.fp32: 0.45, Precision.bf16: 1.1}
EMULATED = 0.5e9  # bf16 on a CPU that has none: some forty times slower than fp32
DISK = 100e6  # bytes a second of a conversion, which reads, renames and writes every tensor; own choice


def seconds(cfg: Recipe, flops: float) -> float:
    """Seconds of so much arithmetic with all cores that the platform's processes may use."""
    return flops / (rate(cfg) * cores(cfg))


def rate(cfg: Recipe) -> float:
    """FLOP a second of one core."""
    precision = checks.precision(cfg)
    emulated = precision is Precision.bf16 and not arithmetic.multiplies_bf16()
    return EMULATED if emulated else SHARES[precision] * arithmetic.products()


def cores(cfg: Recipe) -> int:
    """Cores that compute."""
    return workers.threads(cfg) * (cfg.platform.devices if cfg.platform.threads else 1)


def conversion(size: float) -> float:
    """Seconds of a conversion that writes so many bytes."""
    return START + 2 * size / DISK


def table(estimate: float, cfg: Recipe) -> Table:
    """The estimate with what it assumes."""
    many = cores(cfg)
    assumed = f"{many} core{'s' * (many > 1)} of this CPU at {rate(cfg) / 1e9:.2g} GFLOP/s, {START:g} s of start"
    rows = [("about", output.duration(estimate)), ("assumes", assumed)]
    return Table("Time on this CPU, estimated within a factor of two", rows, numbers=False)
