"""The decorator that makes a function a recipe: Hydra's command line, validation, one run folder, exit codes.

@runs.recipe("prune")
def main(cfg: Recipe, run: runs.Run) -> None: ...
"""

from __future__ import annotations

import errno
import functools
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from nemo_plugins import platforms
from nemo_plugins.configs.schema import Recipe
from nemo_plugins.configs.store import CONF, register
from nemo_plugins.platforms import environment
from nemo_plugins.runs import children, hydra_errors, multirun, output, usage, workers
from nemo_plugins.runs.errors import DONE, FAILED, RESUMABLE, WRONG_INPUT, Failed, Stopped, UserError
from nemo_plugins.runs.folder import Run, note_failure
from nemo_plugins.runs.prepare import composed, prepare
from nemo_plugins.runs.stages import Stage, by_name
from nemo_plugins.runs.workers import rank

Main = Callable[[Recipe, Run], None]
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
NOT_OURS = (errno.EACCES, errno.EPERM, errno.EROFS)
NEARLY_FULL = 1 << 20  # bytes


def recipe(
    stage: str | Stage,
    *,
    before: Callable[[Recipe], None] | None = None,
    alone: Callable[[Recipe], bool] | None = None,
    stale: Callable[[Recipe, dict[str, Any]], bool] | None = None,
) -> Callable[[Main], Callable[[], None]]:
    """Make `main(cfg, run)` the command of a stage.

    Args:
        stage: the name of one of `stages.STAGES`, or another.
        before: called once, before any worker starts, where this is a plain call rather than one process of a job.
        alone: whether a stage of workers or of one process works in this process, as one with processes of its own does.
        stale: whether a finished stage, by its summary, is to be done again without being asked to.
    """
    declared = by_name()[stage] if isinstance(stage, str) else stage

    def decorate(main: Main) -> Callable[[], None]:
        @functools.wraps(main)
        def command() -> None:
            sys.argv += declared.defaults(sys.argv[1:])
            code = _command(job, declared, main.__globals__.get("__doc__") or "")
            output.flush()
            note_failure(code)
            sys.exit(code)

        def job(config: DictConfig) -> int:
            cfg = prepare(config, [word for word in sys.argv[1:] if not word.startswith("-")])
            if not declared.writes:
                return _show(main, declared, cfg, Run(cfg, declared.name, None, declared.reads))
            run = Run(cfg, declared.name, declared.folder_of(cfg), declared.reads_of(cfg))
            own = declared.processes == "own" or bool(alone and alone(cfg))
            return _stage(main, declared, cfg, run, before, own, stale)

        return command

    return decorate


def _command(job: Callable[[DictConfig], int], stage: Stage, docstring: str) -> int:
    """The process: parse, compose, run; every end of it as an exit code."""
    arguments, name = sys.argv[1:], stage.name
    if "--help" in arguments or "-h" in arguments:
        output.say(usage.text(stage, docstring))
        return DONE
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, _stop)
    children.import_this_code()
    try:
        if multirun.asked_for(arguments):
            return multirun.run(arguments)
        return _compose_and_run(job)
    except UserError as error:
        output.error(f"{name}: {error}")
        return WRONG_INPUT
    except KeyboardInterrupt:
        output.error(f"{name}: stopped before it began; the same command starts it")
        return RESUMABLE
    except BrokenPipeError:  # of what Hydra prints itself: `--cfg job | head`
        output.unread(1)
        return DONE
    except (HydraException, OmegaConfBaseException) as error:  # before OSError: Hydra's for a missing group is one
        output.error(f"{name}: {hydra_errors.explain(error)}")
        return WRONG_INPUT
    except OSError as error:
        if not is_denied(error):
            raise
        output.error(f"{name}: {_denied(error)}")
        return WRONG_INPUT


def _denied(error: OSError) -> str:
    """What may not be read, or not be written."""
    if os.path.exists(error.filename) and not os.access(error.filename, os.R_OK):
        return f"{error.filename} cannot be read ({error.strerror})"
    return f"{error.filename} cannot be written ({error.strerror})\nexpected run.root=<a folder of yours>"


def _compose_and_run(job: Callable[[DictConfig], int]) -> int:
    _hide_plugins()
    arguments = sys.argv[1:]
    if not any(word.startswith("-") for word in arguments):
        return job(composed(arguments))
    register()  # what Hydra itself does: --cfg, --info, tab completion
    os.environ["HYDRA_FULL_ERROR"] = "1"  # it then raises its errors instead of printing them and exiting with 1
    ended: list[int] = []
    failed: list[BaseException] = []

    def task(config: DictConfig) -> None:
        # Hydra passes on nothing that its task returns, and wraps what it raises
        try:
            ended.append(job(config))
        except Exception as error:
            failed.append(error)

    hydra.main(version_base="1.3", config_path=str(CONF), config_name="recipe")(task)()
    if failed:
        raise failed[0]
    return ended[0] if ended else DONE  # these run no task


def _hide_plugins() -> None:
    """Hide third parties' Hydra plugins: NeMo's multistorageclient has one that takes a second to import and is not used."""
    installed = sys.modules.get("hydra_plugins")
    # an import of it now fails, which Hydra takes for "none installed"; typeshed knows no None there
    sys.modules["hydra_plugins"] = None  # type: ignore[assignment]
    try:
        Plugins.instance()
    finally:
        del sys.modules["hydra_plugins"]
        if installed:
            sys.modules["hydra_plugins"] = installed


def _stage(
    main: Main,
    stage: Stage,
    cfg: Recipe,
    run: Run,
    before: Callable[[Recipe], None] | None,
    alone: bool,
    stale: Callable[[Recipe, dict[str, Any]], bool] | None,
) -> int:
    """One stage in its folder."""
    made = stage.planned(cfg)
    outdated = bool(stale and (summary := run.summary) and stale(cfg, summary))
    if cfg.dry_run:
        try:
            run.check(inputs=not outdated)
        except UserError as refused:
            made.warnings.append(str(refused))
        if rank() == 0:
            output.plan(made)
        return DONE
    is_chain = run.stage is None
    if made.missing and not (run.finished and not cfg.force):
        raise UserError(*(missing.text for missing in made.missing))
    if not is_chain and not cfg.force:
        run.check(inputs=not outdated)
        if outdated and stage.resumable:  # it would take over what it has kept
            run.put_aside()
        elif outdated:
            (run.folder / "summary.json").unlink()
        if run.finished:
            output.say(f"{run.folder} is finished with this configuration: nothing to do (force=true does it again)")
            return DONE
    for warning in made.warnings:
        output.error(f"warning: {warning}")
    if before and workers.world() is None:
        before(cfg)
    if not is_chain and not alone and workers.needed(cfg.platform):
        if cfg.force:
            run.put_aside()
        return workers.start(cfg.platform, [*sys.argv, "force=false"])
    return _work(main, stage, cfg, run)


def _show(main: Main, stage: Stage, cfg: Recipe, run: Run) -> int:
    """A recipe without a folder."""
    made = stage.planned(cfg)
    if cfg.dry_run:
        output.plan(made)
        return DONE
    if made.missing:
        raise UserError(*(missing.text for missing in made.missing))
    try:
        main(cfg, run)
    except UserError:
        raise
    except KeyboardInterrupt as stop:
        output.error(f"{run.recipe}: ended ({stop or 'interrupted'})")
        return FAILED
    except Failed as failed:
        output.error(str(failed))
        return FAILED
    except BrokenPipeError:  # nobody reads what it shows
        output.unread(1)
    except Exception:
        return _failed()
    return DONE


def _work(main: Main, stage: Stage, cfg: Recipe, run: Run) -> int:
    """Run the stage in this process."""
    environment.prepare(cfg.platform, uses_nemo=stage.uses_nemo)  # torch is not imported yet
    if stage.uses_nemo:
        _choose_transformer_engine(cfg.platform.transformer_engine)
    try:
        run.begin()
        if run.stage:
            output.quiet(run.folder / ("log.txt" if run.is_writer else f"log-rank{rank()}.txt"))
        main(cfg, run)
        if run.stage and run.is_writer and not run.finished:
            raise RuntimeError(f"the recipe returned without run.finish(): {run.folder} has no summary.json")
        return DONE
    except UserError:
        run.failed = True
        raise
    except (Stopped, KeyboardInterrupt) as stop:
        return _stopped(run, stop, stage.resumable)
    except Failed as failed:
        run.failed = True
        output.loud()
        output.error(f"{run.folder}: {failed}")
        return FAILED
    except SystemExit as left:
        if not left.code and run.stage and run.is_writer and not run.finished:  # Lightning's answer to SIGTERM
            return _stopped(run, left, stage.resumable)
        run.failed = bool(left.code)
        return left.code if isinstance(left.code, int) else FAILED if left.code else DONE
    except BaseException as error:  # torch's CheckpointException is no Exception
        if is_denied(error):  # by files below run.root that another user made
            run.failed = True
            raise
        if not is_full_disk(error, run.folder):
            run.failed = True
            return _failed()
        raise UserError(
            f"{run.folder}: no room left on the disk ({error})", "make room; the same command goes on, what was whole stays"
        ) from None
    finally:
        output.loud()
        run.close()


def _choose_transformer_engine(asked: bool | str) -> None:
    """Hide Transformer Engine, or make sure that it can be used, before NeMo is imported and decides by itself.

    Raises:
        UserError: it is asked for and cannot be used.
    """
    from nemo_plugins.planning import checks  # here, for the planning modules import this package's errors

    if asked is False:
        platforms.hide([platforms.TRANSFORMER_ENGINE])
    elif asked is True and not platforms.has_transformer_engine():
        raise UserError(checks.NO_TRANSFORMER_ENGINE, checks.HOW_TO_GO_ON)


def is_denied(error: BaseException) -> bool:
    """Whether a place may not be read or written."""
    return isinstance(error, OSError) and error.errno in NOT_OURS and bool(error.filename)


def is_full_disk(error: BaseException, folder: Path) -> bool:
    """Whether a full disk or quota is what happened.

    Megatron's writer processes hand on no more of it than a text, and torch's writer of archives says of a full disk that a
    position is unexpected, numpy (which writes GGUF files) that it wrote less than was requested: what no error number tells,
    the room that is left does.
    """
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in NO_ROOM
    if any(f"[Errno {number}]" in str(error) for number in NO_ROOM):
        return True
    return folder.exists() and shutil.disk_usage(folder).free < NEARLY_FULL


def _failed() -> int:
    output.loud()
    traceback.print_exc()
    return FAILED


def _stopped(run: Run, stop: BaseException, resumable: bool) -> int:
    why = str(stop) or type(stop).__name__
    if isinstance(stop, Stopped) or resumable:
        output.error(f"{run.folder}: stopped ({why}); the same command goes on with it")
        return RESUMABLE
    run.failed = True
    output.error(f"{run.folder}: stopped ({why}); this stage starts from its beginning when asked for again")
    return FAILED


def _stop(number: int, _frame) -> None:
    raise KeyboardInterrupt(signal.Signals(number).name)
