"""Run the notebooks of the book, as many at once as there are cores, and keep what they print.

The outputs go to the cache that the book is built from, so each notebook runs once. One whose
code did not change is not run again.
"""

import logging
import multiprocessing
import sys

from jupyter_cache import get_cache
from jupyter_cache.cache.db import NbProjectRecord
from jupyter_cache.executors import load_executor

from tools import notebooks
from tools.notebooks import ROOT

CACHE = ROOT / "_build" / ".jupyter_cache"


def main() -> int:
    # What goes wrong is said once, below.
    logging.getLogger(load_executor.__module__).setLevel(logging.CRITICAL)
    multiprocessing.get_logger().setLevel(logging.CRITICAL)
    cache = get_cache(CACHE)
    paths = [str(path) for path in notebooks.paths("chapters", "solutions", "book")]
    for path in paths:
        cache.add_nb_to_project(path)
    result = load_executor("local-parallel", cache).run_and_cache(
        filter_uris=paths, timeout=600
    )
    print(f"{len(result.succeeded)} notebooks ran, {len(paths)} are in the cache.")
    failed = [*result.excepted, *result.errored]
    for path in failed:
        said = NbProjectRecord.record_from_uri(path, cache.db).traceback
        print(f"\nFAILED {path}\n{said or 'It could not be run at all.'}")
    print(f"notebooks: {len(paths) - len(failed)} passed, {len(failed)} failed")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
