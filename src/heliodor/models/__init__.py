"""Networks and model files. Importing this package itself is fast: it does not import torch."""

from pathlib import Path
from typing import Final

#: The file of the general model; see `heliodor.models.pretrained`.
GENERAL_MODEL: Final = Path(__file__).parent / "weights" / "general.safetensors"
#: The file of the general filament model; see `heliodor.models.pretrained`.
GENERAL_FILAMENT_MODEL: Final = Path(__file__).parent / "weights" / "filaments.safetensors"
