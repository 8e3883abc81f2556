"""The host of these tests: the recorded interface, or the Pipeliner with HELIODOR_REAL_HOST=1."""

import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
if os.environ.get("HELIODOR_REAL_HOST") != "1":
    sys.path.insert(0, str(HERE / "recorded_interface"))
