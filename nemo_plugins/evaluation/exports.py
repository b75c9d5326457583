"""Hugging Face folders of the models of an evaluation: found where a conversion left one, else made here.

    python -m nemo_plugins.evaluation.exports DTYPE CHECKPOINT FOLDER [CHECKPOINT FOLDER …]

A process of its own, and one for all of them: NeMo takes long to import, and what it puts right about torch on a CPU slows
every call of the evaluation.
"""

from __future__ import annotations

import sys
from pathlib import Path

from nemo_plugins import runs
from nemo_plugins.configs.schema import Recipe
from nemo_plugins.evaluation import run_outputs

OF_THE_TEACHER = "teacher"  # type of the weights where `convert.dtype` says none


def folders(cfg: Recipe, run: runs.Run) -> dict[str, Path]:
    """The folder, or `.gguf`, of each model of `eval.models`; checkpoints are exported to `models/<name>`.

    Raises:
        Failed: the export does not end well.
    """
    found, missing = {}, {}
    for name, given in cfg.eval.models.items():
        path = runs.local_weights(given) or runs.resolve(given)
        if not runs.is_checkpoint(path):
            found[name] = path
        elif exported := run_outputs.export_of(runs.run_root(cfg), path):
            found[name] = exported
        else:
            run.input(path, kept=True)
            found[name] = run.folder / "models" / name
            if not (found[name] / "config.json").is_file():
                missing[name] = (path, found[name])
    if missing:
        runs.say(f"exporting {', '.join(missing)} to Hugging Face folders in {run.folder / 'models'}")
        words = [cfg.convert.dtype or OF_THE_TEACHER, *(str(path) for pair in missing.values() for path in pair)]
        code = runs.process([sys.executable, "-m", "nemo_plugins.evaluation.exports", *words], own_work=True)
        if code:
            raise runs.Failed(f"the export of {', '.join(missing)} ended with exit code {code}; see {run.folder / 'log.txt'}")
    return found


def main(arguments: list[str]) -> None:
    """Export each checkpoint to the folder that follows it; first comes a value of `convert.dtype`, or `teacher`."""
    from nemo_plugins import platforms

    platforms.prepare()
    from nemo_plugins.models import conversion, nemo
    from nemo_plugins.planning import convert_plan

    asked, *pairs = arguments
    dtype = None if asked == OF_THE_TEACHER else nemo.DTYPES[convert_plan.DTYPES[asked]]
    for checkpoint, folder in zip(pairs[::2], pairs[1::2], strict=True):
        conversion.export_hf(Path(checkpoint), Path(folder), dtype)


if __name__ == "__main__":
    main(sys.argv[1:])
