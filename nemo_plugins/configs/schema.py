"""The typed shape of every configuration: one dataclass a config group, one root for all recipes.

Every recipe composes the same root, so an experiment can hold the choices of a whole chain and each stage reads its own part.
The groups are in the files beside this one, and all their names here. Imports neither torch nor NeMo. `None` means "not asked
for"; where a default is derived, the comment says from what.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from omegaconf import MISSING

from nemo_plugins.configs.alignment import (
    AlignConfig,
    BadRows,
    DpoConfig,
    EndpointConfig,
    Engine,
    GroupLoss,
    GrpoConfig,
    Learn,
    LoraConfig,
    OpdConfig,
    Overlong,
    Packing,
    Preference,
    SftConfig,
)
from nemo_plugins.configs.corpus import (
    CorpusConfig,
    CorpusEngine,
    CorpusTask,
    DecontaminationConfig,
    DuplicatesConfig,
    QualityConfig,
    SlurmConfig,
    TextFiles,
)
from nemo_plugins.configs.data import DataConfig, LanguageConfig
from nemo_plugins.configs.deployment import (
    Backend,
    BenchConfig,
    ChatConfig,
    ChatSource,
    ExportConfig,
    Format,
    ImatrixConfig,
    PlanConfig,
    PublishConfig,
    ServerConfig,
    Target,
    VerifyConfig,
)
from nemo_plugins.configs.evaluation import (
    EvalBackend,
    EvalConfig,
    EvalEndpointConfig,
    Form,
    Lacking,
    Origin,
    ReportConfig,
    TaskConfig,
)
from nemo_plugins.configs.model import Family, ModelConfig, RecommendedConfig, SizesConfig
from nemo_plugins.configs.platform import DoctorConfig, Kind, PlatformConfig, Precision, Recompute
from nemo_plugins.configs.pruning import (
    Aggregate,
    AggregationConfig,
    BudgetConfig,
    CalibrationConfig,
    Count,
    Criterion,
    GridConfig,
    PruneConfig,
    SearchConfig,
)
from nemo_plugins.configs.run import ExperimentConfig, LoggerConfig, PathConfig, RunConfig, StageConfig
from nemo_plugins.configs.training import (
    BadStep,
    ConvertConfig,
    DistillConfig,
    Divergence,
    LossConfig,
    PretrainConfig,
    Start,
    TeacherConfig,
    TeacherMode,
    TrainConfig,
    VocabularyConfig,
)


@dataclass
class Recipe:
    """Root of every recipe's configuration."""

    run: RunConfig = field(default_factory=RunConfig)
    dry_run: bool = False
    force: bool = False
    model: ModelConfig = MISSING
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    student: PathConfig = field(default_factory=PathConfig)
    platform: PlatformConfig = field(default_factory=PlatformConfig)
    data: DataConfig = field(default_factory=DataConfig)
    language: LanguageConfig = field(default_factory=LanguageConfig)
    corpus: CorpusConfig = field(default_factory=CorpusConfig)
    pretrain: PretrainConfig = field(default_factory=PretrainConfig)
    convert: ConvertConfig = field(default_factory=ConvertConfig)
    prune: PruneConfig = field(default_factory=PruneConfig)
    search: SearchConfig = field(default_factory=SearchConfig)
    plan: PlanConfig = field(default_factory=PlanConfig)
    distill: DistillConfig = field(default_factory=DistillConfig)
    sft: SftConfig = field(default_factory=SftConfig)
    opd: OpdConfig = field(default_factory=OpdConfig)
    dpo: DpoConfig = field(default_factory=DpoConfig)
    grpo: GrpoConfig = field(default_factory=GrpoConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    report: ReportConfig = field(default_factory=ReportConfig)
    export: ExportConfig = field(default_factory=ExportConfig)
    bench: BenchConfig = field(default_factory=BenchConfig)
    chat: ChatConfig = field(default_factory=ChatConfig)
    publish: PublishConfig = field(default_factory=PublishConfig)
    doctor: DoctorConfig = field(default_factory=DoctorConfig)
    logger: LoggerConfig = field(default_factory=LoggerConfig)
    experiment: ExperimentConfig = field(default_factory=ExperimentConfig)
