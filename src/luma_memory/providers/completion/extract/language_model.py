"""The model that identifies languages, in a seventh of the memory the library takes for it.

The library (py3langid) holds its tables as they are stored: 70 MB, of which 39 are a table of
transitions with the same few entries in most of its rows. A process that identifies no language
until a provider fails would grow by all of it at that moment. Here the rows are cut into segments,
equal segments are held once, and of the probabilities only those of the languages to choose from.
"""

from __future__ import annotations

import lzma
import math
import shutil
import tempfile
import unicodedata
import zipfile
from array import array
from collections import Counter
from collections.abc import Collection, Iterator
from typing import IO, Any, Final, Self

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy
from py3langid.langid import MODEL_DIR, MODEL_FILE

_COPY_BYTES: Final = 1 << 20
# Sixteen segments of sixteen entries per row of 256: measured to take the least memory.
_SEGMENT_BITS: Final = 4
_SEGMENT: Final = 1 << _SEGMENT_BITS
_ROWS_AT_ONCE: Final = 1024


class LanguageModel:
    """Naive Bayes over the byte sequences of a text (Lui and Baldwin, 2012), the features found by
    one automaton. The results are those of the library's `LanguageIdentifier` with `norm_probs`.
    """

    def __init__(
        self,
        *,
        languages: list[str],
        prior: npt.NDArray[np.float32],
        likelihood: npt.NDArray[np.float16],
        rows: array[int],
        segments_of_rows: array[int],
        segments: array[int],
        features: array[int],
    ) -> None:
        """languages: a code may occur twice, for two scripts. likelihood: [feature, language].
        rows: of each state, the place of its row in segments_of_rows, where each row has 16
        numbers of segments. segments: 16 next states each. features: of each state, or -1.
        """
        self._languages = languages
        self._prior = prior
        self._likelihood = likelihood
        self._rows = rows
        self._segments_of_rows = segments_of_rows
        self._segments = segments
        self._features = features

    @classmethod
    def load(cls, languages: Collection[str]) -> Self:
        """A model that chooses among those of the languages that it knows.

        About a second, and 70 MB of a temporary file meanwhile. Raises OSError without space for
        it.
        """
        with tempfile.TemporaryFile(suffix=".npz") as unpacked:
            with lzma.open(MODEL_DIR / MODEL_FILE) as packed:
                shutil.copyfileobj(packed, unpacked, length=_COPY_BYTES)
            with zipfile.ZipFile(unpacked) as archive:
                return cls._of(archive, languages)

    @classmethod
    def _of(cls, archive: zipfile.ZipFile, languages: Collection[str]) -> Self:
        codes = _whole(archive, "classes").tolist()
        chosen = np.array([n for n, code in enumerate(codes) if code in languages], dtype=np.intp)
        segments_of_rows, segments = _segmented(_pieces(archive, "nextmove", _ROWS_AT_ONCE * 256))
        return cls(
            languages=[codes[n] for n in chosen],
            prior=_whole(archive, "pc")[chosen],
            likelihood=_columns(archive, "ptc", chosen),
            rows=_compact(_whole(archive, "nextmove_row").astype(np.uint32) << 4),
            segments_of_rows=segments_of_rows,
            segments=segments,
            features=_compact(_whole(archive, "out_feat")),
        )

    def classify(self, text: str) -> tuple[str, float]:
        """The most probable language and its probability among those to choose from."""
        data = unicodedata.normalize("NFC", text.lower() if text.isupper() else text).encode(
            "utf-8", errors="surrogatepass"
        )
        scores = self._scores(data)
        # The square root keeps the probabilities of long and short texts comparable.
        scores *= 1.0 / math.sqrt(len(data) or 1)
        np.exp(scores - scores.max(), out=scores)
        scores /= scores.sum()
        by_code: dict[str, float] = {}
        for code, score in zip(self._languages, scores.tolist(), strict=True):
            by_code[code] = by_code.get(code, 0.0) + score
        best = max(by_code, key=by_code.__getitem__)
        return best, by_code[best]

    def _scores(self, data: bytes) -> npt.NDArray[np.float32]:
        counts = self._feature_counts(data)
        if not counts:
            return np.zeros(len(self._languages), np.float32)
        found = np.fromiter(counts.keys(), np.intp, len(counts))
        weights = np.log1p(np.fromiter(counts.values(), np.float32, len(counts)))
        scores: npt.NDArray[np.float32] = weights @ self._likelihood[found] + self._prior
        return scores

    def _feature_counts(self, data: bytes) -> Counter[int]:
        rows, segments_of_rows = self._rows, self._segments_of_rows
        segments, features = self._segments, self._features
        found: list[int] = []
        state = 0
        for letter in data:
            segment = segments_of_rows[rows[state] | letter >> 4]
            state = segments[segment << 4 | letter & 15]
            feature = features[state]
            if feature >= 0:
                found.append(feature)
        return Counter(found)


def _segmented(pieces: Iterator[npt.NDArray[Any]]) -> tuple[array[int], array[int]]:
    """A table with rows of 256 entries: the segments of its rows, and the different segments."""
    numbers: dict[bytes, int] = {}
    segments_of_rows, segments = array("I"), array("I")
    for piece in pieces:
        whole = np.ascontiguousarray(piece, np.uint32).view(f"V{4 * _SEGMENT}")
        different, places = np.unique(whole, return_inverse=True)
        of_different = np.empty(len(different), np.uint32)
        for place, segment in enumerate(different.tolist()):
            number = numbers.setdefault(segment, len(numbers))
            of_different[place] = number
            if number * _SEGMENT == len(segments):
                segments.frombytes(segment)
        segments_of_rows.frombytes(of_different[places].tobytes())
    return segments_of_rows, segments


def _compact(values: npt.NDArray[Any]) -> array[int]:
    """An array that is read one number at a time: several times as fast as NumPy's."""
    numbers = array("i" if values.dtype.kind == "i" else "I")
    numbers.frombytes(values.astype(numbers.typecode).tobytes())
    return numbers


def _whole(archive: zipfile.ZipFile, name: str) -> npt.NDArray[Any]:
    with archive.open(f"{name}.npy") as stream:
        return npy.read_array(stream, allow_pickle=False)


def _columns(
    archive: zipfile.ZipFile, name: str, columns: npt.NDArray[np.intp]
) -> npt.NDArray[Any]:
    with archive.open(f"{name}.npy") as stream:
        shape, dtype = _head(stream)
    chosen = np.empty((shape[0], len(columns)), dtype)
    row = 0
    for piece in _pieces(archive, name, _ROWS_AT_ONCE):
        chosen[row : row + len(piece)] = piece[:, columns]
        row += len(piece)
    return chosen


def _pieces(archive: zipfile.ZipFile, name: str, length: int) -> Iterator[npt.NDArray[Any]]:
    """An array in stretches of at most `length` along its first axis."""
    with archive.open(f"{name}.npy") as stream:
        shape, dtype = _head(stream)
        row_bytes = dtype.itemsize * math.prod(shape[1:])
        while data := stream.read(length * row_bytes):
            yield np.frombuffer(data, dtype).reshape(-1, *shape[1:])


def _head(stream: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    assert npy.read_magic(stream) == (1, 0)
    shape, _, dtype = npy.read_array_header_1_0(stream)
    return shape, dtype
