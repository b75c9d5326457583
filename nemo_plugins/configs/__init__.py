"""Configurations: the dataclasses of `conf/` and their registration with Hydra."""

from nemo_plugins.configs.schema import CorpusTask, Recipe, TeacherMode
from nemo_plugins.configs.store import CONF, REPOSITORY, options
