"""From documents to training text: normalised, in the language, good, each once, without evaluation items and personal data.

Run on a laptop    python recipes/data.py +model=tiny_pl
Your own text      python recipes/data.py +model=bielik11b corpus.sources=[crawl/] corpus.decontamination.items=[items.jsonl]
On a cluster       python recipes/data.py +model=bielik11b corpus.sources=[crawl/] corpus.engine=slurm \\
                       corpus.slurm.partition=cpu
Dialogues          python recipes/data.py +model=bielik11b experiment=minitron_7b corpus.task=chats sft.data=[chats.jsonl.gz]
See first          python recipes/data.py +model=tiny_pl dry_run=true
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a plain checkout works, too

from nemo_plugins import runs
from nemo_plugins.configs import CorpusTask, Recipe


@runs.recipe("data")
def main(cfg: Recipe, run: runs.Run) -> None:
    if cfg.corpus.task is CorpusTask.clean:
        from nemo_plugins.data.corpus import clean  # heavy imports after validation

        clean.run(cfg, run)
    elif cfg.corpus.task is CorpusTask.chats:
        from nemo_plugins.data.chat import parallel_sets

        parallel_sets.run(cfg, run)
    else:
        from nemo_plugins.data.quality import tasks

        tasks.run(cfg, run)


if __name__ == "__main__":
    main()
