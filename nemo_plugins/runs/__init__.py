"""Running a stage: its command line, its folder, its errors. Imports neither torch nor NeMo."""

from nemo_plugins.runs.atomic import put_in_place
from nemo_plugins.runs.chain import import_teacher, process
from nemo_plugins.runs.children import end_with_parent
from nemo_plugins.runs.command_line import command, override
from nemo_plugins.runs.errors import FAILED, Failed, Stopped, UserError
from nemo_plugins.runs.fingerprint import fingerprint
from nemo_plugins.runs.folder import Run, peak_memory_bytes
from nemo_plugins.runs.output import console, say
from nemo_plugins.runs.paths import (
    architecture,
    earlier,
    export_command,
    hf_dtype,
    is_checkpoint,
    left_by,
    local_weights,
    newest_checkpoint,
    policy,
    record,
    resolve,
    run_root,
    student,
    student_sizes,
    teacher,
    uncorrected_teacher,
)
from nemo_plugins.runs.recipe import recipe
from nemo_plugins.runs.stages import CORRECTED, students
from nemo_plugins.runs.workers import rank, threads

end_with_parent()
