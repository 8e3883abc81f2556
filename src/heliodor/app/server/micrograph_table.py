"""What the table of micrographs shows beside the columns of the list."""

from __future__ import annotations

import logging
import threading
from typing import Any

import numpy as np

from heliodor.app.server.predictions import MicrographPredictions, ModelCalibration, Predictions
from heliodor.app.server.project import Project
from heliodor.app.server.tiles import MicrographTiles
from heliodor.data.coordinates.picks import Picks
from heliodor.data.micrographs.acquisition import Acquisition, find_lists, read_acquisition
from heliodor.data.micrographs.ctf import CtfParameters
from heliodor.errors import BadInput
from heliodor.picking.micrograph_quality import assess_micrographs
from heliodor.utils.hashing import stamp_file

log = logging.getLogger(__name__)


class MicrographTable:
    """Sizes, CTF fits, expected particles and outliers of the micrographs; any thread may call.

    Parameters
    ----------
    project, tiles, predictions
        Those of the `ProjectState`.
    """

    def __init__(self, project: Project, tiles: MicrographTiles, predictions: Predictions) -> None:
        self._project, self._tiles, self._predictions = project, tiles, predictions
        self._lock = threading.Lock()
        self._closing = False
        self._reader: threading.Thread | None = None
        #: The numbers of the lists, and the stamps of the files they are from.
        self._acquisition: tuple[list[str], Acquisition] | None = None
        self._particles: dict[int, tuple[MicrographPredictions, ModelCalibration, float]] = {}

    def columns(self) -> dict[str, Any]:
        """Return the columns that do not change while the user works.

        The headers of the micrographs are read in the background; `pending` is the number of
        those that are still to be read.
        """
        names = [source.name for source in self._project.sources]
        headers = [self._tiles.known_header(number) for number in range(len(names))]
        pending = sum(header is None for header in headers)
        if pending:
            self._read_headers()
        sizes = [None if header is None else header.shape for header in headers]
        acquisition = self.acquisition()
        return {
            "pending": pending if self._is_reading else 0,
            "width": [None if size is None else size[1] for size in sizes],
            "height": [None if size is None else size[0] for size in sizes],
            "pixel_size": [
                None if header is None else self._pixel_size(number)
                for number, header in enumerate(headers)
            ],
            "columns": [
                {
                    "key": column.key,
                    "title": column.title,
                    "unit": column.unit,
                    "values": [
                        None if (value := column.values.get(name)) is None else round(value, 6)
                        for name in names
                    ],
                }
                for column in acquisition.columns
            ],
        }

    def _pixel_size(self, number: int) -> float | None:
        try:
            return self._tiles.pixel_size(number)
        except BadInput:
            return None

    @property
    def _is_reading(self) -> bool:
        return self._reader is not None and self._reader.is_alive()

    def _read_headers(self) -> None:
        """Read the headers of all micrographs in the background."""
        with self._lock:
            if self._is_reading or self._closing:
                return
            self._reader = threading.Thread(
                target=self._read_all_headers, name="reading headers", daemon=True
            )
            self._reader.start()

    def _read_all_headers(self) -> None:
        for number in range(len(self._project.sources)):
            if self._closing:
                return
            if self._tiles.known_header(number) is None:
                try:
                    self._tiles.header(number)
                except BadInput as error:
                    # The list shows why, once the micrograph is opened or scored.
                    log.debug(str(error))

    def acquisition(self) -> Acquisition:
        """Return what the lists of micrographs say, read again if one has changed."""
        lists = find_lists(self._project.settings.inputs)
        stamps = [f"{path} {stamp_file(path)}" for path in lists]
        with self._lock:
            if self._acquisition is None or self._acquisition[0] != stamps:
                try:
                    found = read_acquisition(lists)
                except BadInput as error:  # it may be being written
                    log.warning(f"{error}; its columns are not shown")
                    found = Acquisition()
                self._acquisition = (stamps, found)
            return self._acquisition[1]

    def ctf(self, number: int) -> CtfParameters | None:
        """Return the CTF of a micrograph, None if no list gives it."""
        return (self.acquisition().ctf or {}).get(self._project.sources[number].name)

    def particles(self, number: int) -> float | None:
        """Return the expected number of particles among the candidates of a micrograph.

        None if it was not scored, or probabilities are not known.
        """
        seen = self._predictions.get(number)
        if seen is None:
            return None
        calibration = self._predictions.calibration(seen.model)
        kept = self._particles.get(number)
        if kept is None or kept[0] is not seen or kept[1] is not calibration:
            probability = calibration.probability(seen.ascending_scores)
            if probability is None:
                return None
            kept = self._particles[number] = seen, calibration, float(np.sum(probability))
        return round(kept[2], 1)

    def outliers(self, threshold: float) -> dict[int, list[str]]:
        """Return the micrographs that are unlike the others, with the reasons.

        The same rules as in ``micrographs.tsv``, on those that the model in use has scored and
        that are not excluded, each at its own threshold.
        """
        seen = self._predictions.of_model(self._project.settings.model)
        numbers = {str(number): own for number, own in sorted(seen.items())}
        rows = assess_micrographs(
            (
                (name, Picks.on(name, own.xy_px[own.selectable], own.score[own.selectable]))
                for name, own in numbers.items()
            ),
            threshold,
            {name: own.measured for name, own in numbers.items()},
            offsets={name: self._project.threshold_offset(int(name)) for name in numbers},
        )
        return {int(row.name): [*row.flags] for row in rows if row.flags}

    def close(self) -> None:
        """Stop reading headers."""
        self._closing = True
        if self._reader is not None:
            self._reader.join()
