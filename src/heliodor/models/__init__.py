"""The models that are shipped; light to import, as hosts wait for it at each call."""

from pathlib import Path
from typing import Final

#: The general model: see `heliodor.models.pretrained`.
GENERAL_MODEL: Final = Path(__file__).parent / "weights" / "general.safetensors"
