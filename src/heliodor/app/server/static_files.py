"""Files of one folder, each with the media type of its suffix."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException
from starlette.staticfiles import StaticFiles

if TYPE_CHECKING:
    from starlette.responses import Response
    from starlette.types import Scope


class TypedFiles(StaticFiles):
    """Serves the files of a folder that have one of the given suffixes.

    Everything else is not found: hidden files, folders, and links that lead out of the folder.
    The media types do not depend on the tables of the machine, which may be wrong for scripts.

    Parameters
    ----------
    folder
        The folder; it may be created later.
    media_types
        The media type of each suffix.
    """

    def __init__(self, folder: Path, media_types: Mapping[str, str]) -> None:
        super().__init__(directory=folder, check_dir=False)
        self._media_types = media_types

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Return the response for a path below the folder, with slashes.

        Raises
        ------
        HTTPException
            If there is no such file.
        """
        parts = path.split("/")
        media_type = self._media_types.get(Path(parts[-1]).suffix)
        hidden = any(not part or part.startswith(".") for part in parts)
        if media_type is None or hidden or "\\" in path or not path.isprintable():
            raise HTTPException(404)
        response = await super().get_response(path, scope)
        if response.status_code != 304:
            response.headers["content-type"] = media_type
        return response
