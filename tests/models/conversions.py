"""python conversions.py FOLDER: convert every Hugging Face folder below FOLDER to NeMo and back, in one start of NeMo.

FOLDER/<name>/source → FOLDER/<name>/checkpoint → FOLDER/<name>/hf, of fp32 ones FOLDER/<name>/rounded in bf16, too;
FOLDER/<name>/progress.txt: a line for each tensor of the import, as progress shows it
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

if __name__ == "__main__":
    from nemo_plugins import platforms
    from nemo_plugins.models import conversion, nemo
    from nemo_plugins.runs import architecture, hf_dtype
    from nemo_plugins.runs.prepare import compose
    from nemo_plugins.runs.progress import Progress

    class Noted(Progress):
        """Notes each line that could be shown."""

        def advance(self, count=1):
            super().advance(count)
            with (folder / "progress.txt").open("a") as file:
                file.write(f"{self.line()}\n")

    platforms.prepare()
    for folder in sorted(Path(sys.argv[1]).iterdir()):
        source = folder / "source"
        cfg = compose(["+model=from_hf", f"model.path={source}"])
        dtype = nemo.DTYPES[hf_dtype(source)]
        tokenizer = nemo.tokenizer(source, folder / "tokenizer")
        module = nemo.module(cfg.model, architecture(cfg.model), dtype, tokenizer)
        conversion.import_hf(source, folder / "checkpoint", module, dtype, Noted("convert", unit="tensors"))
        conversion.export_hf(folder / "checkpoint", folder / "hf")
        if dtype is nemo.DTYPES["float32"]:
            conversion.export_hf(folder / "checkpoint", folder / "rounded", nemo.DTYPES["bfloat16"])
