"""The host of these tests: the recorded interface, or Scipion itself with HELIODOR_REAL_HOST=1."""

import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
IS_REAL = os.environ.get("HELIODOR_REAL_HOST") == "1"
sys.path[:0] = [str(HERE), str(HERE.parent)]
if not IS_REAL:
    sys.path.insert(0, str(HERE / "recorded_interface"))
