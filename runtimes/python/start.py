"""Entry point of a Python instance: finds the runtime's own modules, then leaves the search path to the function."""

import os
import sys

_HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, _HERE)

import alyx_functions  # noqa: E402, F401  (functions import it by this name)
from alyx_runtime import worker  # noqa: E402

sys.path.remove(_HERE)

if __name__ == "__main__":
    worker.main()
