"""Distil a teacher into its pruned student with NeMo: forward KL on the logits, the teacher frozen.

Run on a laptop    python recipes/distill.py +model=tiny_pl
Teacher once       python recipes/distill.py +model=tiny_pl teacher.mode=record distill.loss.top_k=64
  then from files  python recipes/distill.py +model=tiny_pl teacher.mode=cached distill.loss.top_k=64
See first          python recipes/distill.py +model=bielik11b dry_run=true
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a plain checkout works, too

from nemo_plugins import runs
from nemo_plugins.configs import Recipe, TeacherMode


@runs.recipe("distill", before=runs.import_teacher)
def main(cfg: Recipe, run: runs.Run) -> None:
    from nemo_plugins.platforms import prepare  # heavy imports after validation

    prepare()
    from nemo_plugins.distillation import cached, live, record

    if cfg.teacher.mode is TeacherMode.record:
        record.run(cfg, run)
    elif cfg.teacher.mode is TeacherMode.cached:
        cached.CachedDistillation(cfg, run).fit()
    else:
        live.LiveDistillation(cfg, run).fit()


if __name__ == "__main__":
    main()
