"""What the short scripts in Python share: steps that are run in order, and counted."""

import os
import sys
import traceback

SESSION = os.environ.get("POOL_MODE", "session") == "session"
# A tenant that the login may switch to; unset where the target is no gateway.
OTHER_TENANT = os.environ.get("OTHER_TENANT")
_skipped = os.environ.get("SKIP_STEPS", "").split()
_steps = []


def step(function=None, *, when=True):
    """Adds a step. `when`: whether the target can be asked for it."""
    if function is None:
        return lambda function: step(function, when=when)
    if when and function.__name__ not in _skipped:
        _steps.append(function)
    return function


def run(name, call=lambda step: step()):
    failed = 0
    for each in _steps:
        try:
            call(each)
        except Exception:
            failed += 1
            print(f"FAILED: {each.__name__}")
            traceback.print_exc(file=sys.stdout)
    print(f"{name}: {len(_steps) - failed} steps passed, {failed} failed")
    sys.exit(failed > 0)
