"""What every client's checks are made of: functions whose documentation says what is run."""

import asyncio
import importlib.metadata
import inspect
import json
import os
import sys
import traceback

URL = os.environ["SERVER_URL"]  # of the scripted model (scenes.py)
RANDOM_URL = os.environ["RANDOM_URL"]  # of one of random weights (random_model.py), called random
RANDOM_FOLDER = os.environ["RANDOM_FOLDER"]
MODEL = "scripted"
PERSON = {"name": "Ada", "age": 36}


def run(package, checks):
    """Runs the functions whose names begin with check_, in their order; one line of JSON for each."""
    version = importlib.metadata.version(package)
    failed = False
    for name, check in list(checks.items()):
        if not name.startswith("check_"):
            continue
        error = None
        try:
            made = check()
            if inspect.isawaitable(made):
                asyncio.run(made)
        except Exception:
            traceback.print_exc(file=sys.stderr)
            error = traceback.format_exc(limit=-1).strip().splitlines()[-1][:300] or name
            failed = True
        what = " ".join(check.__doc__.split())
        print(json.dumps({"client": package, "version": version, "what": what, "error": error}), flush=True)
    sys.exit(failed)


def equal(found, expected):
    assert found == expected, f"found {found!r}, expected {expected!r}"
