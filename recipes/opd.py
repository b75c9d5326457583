"""Distil a teacher into its student on the student's own answers with NeMo: on-policy distillation, the teacher frozen.

Run on a laptop    python recipes/opd.py +model=tiny_pl experiment=laptop
Half off-policy    python recipes/opd.py +model=tiny_pl experiment=laptop opd.share=0.5 opd.loss.kind=jsd run.stage=opd-half
See first          python recipes/opd.py +model=bielik11b experiment=minitron_7b dry_run=true
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a plain checkout works, too

from nemo_plugins import runs
from nemo_plugins.configs import Recipe


@runs.recipe("opd", before=runs.import_teacher)
def main(cfg: Recipe, run: runs.Run) -> None:
    from nemo_plugins.platforms import prepare  # heavy imports after validation

    prepare()
    from nemo_plugins.alignment import opd

    opd.OnPolicyDistillation(cfg, run).fit()


if __name__ == "__main__":
    main()
