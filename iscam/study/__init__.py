"""Studies, which evaluate images with methods and metrics. An interrupted study keeps its finished parts."""

from iscam.study.run import run_study as run_study
from iscam.study.spec import Study as Study
from iscam.study.spec import read_study as read_study
from iscam.study.statistics import paired as paired
from iscam.study.statistics import summary as summary
from iscam.study.store import read_rows as read_rows
