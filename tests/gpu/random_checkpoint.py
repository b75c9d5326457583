"""A NeMo checkpoint of a model's real shapes with random weights, for a machine to which no weights travel.

    python tests/gpu/random_checkpoint.py FOLDER +model=bielik11b [model.num_layers=12 …]

The tokenizer is tiny_pl's: 4,096 ids, within any vocabulary that is larger.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY))


def main(folder: Path, overrides: list[str]) -> None:
    from nemo_plugins import platforms, runs
    from nemo_plugins.runs.prepare import compose

    cfg = compose(overrides)
    platforms.prepare()
    import torch
    from nemo import lightning as nl
    from nemo.lightning import teardown

    from nemo_plugins.models import nemo
    from nemo_plugins.models.conversion import Importer

    architecture = runs.architecture(cfg.model)
    description = folder.with_name(folder.name + "-tokenizer")
    module = nemo.module(
        cfg.model, architecture, torch.bfloat16, nemo.tokenizer(REPOSITORY / "assets" / "tiny_pl", description)
    )
    module.config.perform_initialization = False
    strategy = nl.MegatronStrategy(ckpt_save_optimizer=False, always_save_context=True)
    trainer = nl.Trainer(devices=1, accelerator="cpu", strategy=strategy, logger=False)
    importer = Importer(str(description))
    trainer = importer.nemo_setup(module, trainer)
    draw = torch.Generator("cuda" if torch.cuda.is_available() else "cpu").manual_seed(1)
    with torch.no_grad():
        for values in module.parameters():
            if values.dim() == 1:
                values.fill_(1)
            else:
                drawn = torch.empty(values.shape, dtype=torch.bfloat16, device=draw.device)
                values.copy_(drawn.normal_(0, 0.02, generator=draw))
    count = sum(values.numel() for values in module.parameters())
    assert count == architecture.parameters(), f"{count:,} parameters, expected {architecture.parameters():,}"
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    importer.nemo_save(partial, trainer)
    teardown(trainer, module)
    runs.put_in_place(partial, folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), sys.argv[2:])
