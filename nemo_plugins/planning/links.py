"""A chain's stages for a script: validated, then printed as words that end with NUL, which no override can hold.

python -m nemo_plugins.planning.links OVERRIDE …     for each stage: its name, its recipe, how many overrides, the overrides
"""

from __future__ import annotations

import sys

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from nemo_plugins.planning import chain_plan, chain_screen
from nemo_plugins.runs import hydra_errors
from nemo_plugins.runs.errors import DONE, WRONG_INPUT, UserError
from nemo_plugins.runs.prepare import compose
from nemo_plugins.runs.stages import by_name


def main(overrides: list[str]) -> int:
    overrides = [*overrides, *by_name()["minitron"].defaults(overrides)]
    try:
        cfg = compose(overrides)
        made = chain_plan.plan(cfg)
        links = chain_plan.links(cfg, overrides)
    except UserError as error:
        print(f"minitron: {error}", file=sys.stderr)
        return WRONG_INPUT
    except (HydraException, OmegaConfBaseException) as error:
        print(f"minitron: {hydra_errors.explain(error)}", file=sys.stderr)
        return WRONG_INPUT
    for table in made.screen:
        if table.title in chain_screen.SAID_ALWAYS:
            print(table.title, *("  ".join(row) for row in table.rows), sep="\n", file=sys.stderr)
    for link in links:
        for word in (link.name, link.recipe, str(len(link.overrides)), *link.overrides):
            sys.stdout.write(f"{word}\0")
    return DONE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
