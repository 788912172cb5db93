"""A run, a sweep of runs, where results are kept, and who executes them."""

from normlab.lab.config import RunConfig
from normlab.lab.run import RunResult, run
from normlab.lab.scales import Scales
from normlab.lab.store import Store
from normlab.lab.sweep import sweep
from normlab.lab.text import Corpus, load_corpus

__all__ = ["Corpus", "RunConfig", "RunResult", "Scales", "Store", "load_corpus", "run", "sweep"]
