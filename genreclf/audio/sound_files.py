"""The samples of sound files as stored: all of them, or a note about what is missing.

libsndfile reads most files, and fastest. It stops early where a file holds more than its header or
its first stream says: an MP3 file of variable bit rate without a Xing header, files that were
joined, a WAV file whose writer never filled in its size. PyAV then goes on from there, as it does
where libsndfile fails.
"""

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from genreclf.audio.av_reader import AvReader
from genreclf.audio.checks import DecodeError as DecodeError
from genreclf.audio.checks import check_file, check_format, refuse_other_content
from genreclf.audio.headers import estimates_duration, find_fault, read_stated_size

TOLERANCE = 0.5  # s that may be missing, and .1 %: decoders differ in what they trim
GAIN = 0.2  # s that PyAV must read more than libsndfile to be asked
UNREAD = 4096  # bytes; so few after the end of the audio hold no more of it
BLOCK = 60  # s that are read together, at most
MIN_BYTES = 10  # per second of audio beyond FIRST: silence in FLAC takes twice as many
FIRST = 3600.0  # s
STEP = 0.5  # s that are read in one call
BUFFER = 1 << 16  # bytes
MOST_FRAMES = 1 << 50  # libsndfile's number is far above if a header does not say
FEW = 2  # packets that decoders reject without damage, such as the header of an MP3 file


def read_stretches(
    path: Path, duration: float, notes: list[str] | None = None
) -> Generator[tuple[np.ndarray, int]]:
    """Read a file of any length, `duration` seconds at a time; the last stretch may be shorter.

    What the file should contain is looked up only where a stretch is shorter.

    Args:
        path: the file.
        duration: length of a stretch in seconds.
        notes: gets a line if less decodes than the file should contain.

    Yields:
        float32 (n, channels), and the file's own sample rate in Hz.

    Raises:
        DecodeError: there is no such file, it does not decode, or it gives impossibly much audio.
    """
    check_file(path)
    most = FIRST + path.stat().st_size / MIN_BYTES
    parts: list[np.ndarray] = []
    count, total, rate = 0, 0, 0
    for samples, rate in _read_blocks(path, duration, [] if notes is None else notes):
        size = max(1, int(duration * rate))
        parts.append(samples)
        count, total = count + len(samples), total + len(samples)
        if total > most * rate:
            raise DecodeError("does not decode: it gives more audio than a file of its size holds")
        if count >= size:
            joined = parts[0] if len(parts) == 1 else np.concatenate(parts)
            while count >= size:
                yield joined[:size], rate
                joined, count = joined[size:], count - size
            parts = [joined]
    if count:
        yield np.concatenate(parts), rate


class _Stream(soundfile.SoundFile):
    """A file that is read from start to end.

    soundfile seeks after each read of a seekable file. That resets an MP3 decoder, which then lacks
    the bits that earlier frames keep for later ones (the bit reservoir).
    """

    def seekable(self) -> bool:
        return False


@dataclass
class _Progress:
    """How far a file has been read.

    Attributes:
        rate: sample rate in Hz; None before the first samples.
        channels: number of channels; None before the first samples.
        done: number of samples that were read.
        stated: seconds that the file should have; None if it does not say.
        complete: whether libsndfile read all that is there.
        damaged: number of packets that PyAV could not decode.
    """

    rate: int | None = None
    channels: int | None = None
    done: int = 0
    stated: float | None = None
    complete: bool = False
    damaged: int = 0

    @property
    def seconds(self) -> float:
        """Seconds that were read."""
        return self.done / self.rate if self.rate else 0.0

    @property
    def lacks_some(self) -> bool:
        """Whether the file should have more than what was read."""
        return self.stated is not None and 0.999 * self.stated - self.seconds > TOLERANCE


def _read_blocks(
    path: Path, duration: float, notes: list[str]
) -> Generator[tuple[np.ndarray, int]]:
    """Yield samples (n, channels) and their rate: libsndfile's, then what only PyAV reads."""
    progress, failed = _Progress(), False
    try:
        yield from _read_with_libsndfile(path, duration, progress)
    except soundfile.LibsndfileError:
        failed = True
    if not progress.complete and (failed or _has_more(path, progress.seconds + GAIN)):
        if not progress.done:
            refuse_other_content(path, by_signature=True)
        try:
            yield from _read_with_pyav(path, progress)
        except DecodeError:
            if not progress.done:
                raise
    notes += _find_faults(path, progress)


def _read_with_libsndfile(
    path: Path, duration: float, progress: _Progress
) -> Generator[tuple[np.ndarray, int]]:
    with path.open("rb", BUFFER) as file, _Stream(file) as sound:
        check_format(sound.samplerate, sound.channels)
        progress.rate, progress.channels = sound.samplerate, sound.channels
        if sound.frames < MOST_FRAMES:
            progress.stated = sound.frames / sound.samplerate
        size = max(1, int(min(duration, BLOCK) * sound.samplerate))
        while len(samples := _read_block(sound, size)):
            progress.done += len(samples)
            yield samples, sound.samplerate
        unread = path.stat().st_size - file.tell()
        progress.complete = unread <= UNREAD and not progress.lacks_some


def _read_block(sound: soundfile.SoundFile, size: int) -> np.ndarray:
    """Read up to `size` samples, float32 (n, channels), in small steps.

    At its end of an MP3 file, libsndfile decodes as much as was asked for, and then drops it. In
    small steps, where the file stands afterwards tells whether there is more.

    Raises:
        LibsndfileError: the first step fails; a later one ends the block.
    """
    block, done = np.empty((size, sound.channels), np.float32), 0
    step = max(1, int(STEP * sound.samplerate))
    while done < size:
        try:
            read = len(sound.read(out=block[done : done + step]))
        except soundfile.LibsndfileError:
            if not done:
                raise
            break
        done += read
        if not read:
            break
    return block[:done]


def _has_more(path: Path, seconds: float) -> bool:
    """Whether PyAV would read more than that."""
    try:
        with AvReader(path) as reader:
            return reader.has_more_than(seconds)
    except DecodeError:
        return False


def _read_with_pyav(path: Path, progress: _Progress) -> Generator[tuple[np.ndarray, int]]:
    """Go on where libsndfile stopped, at its sample rate and with its number of channels."""
    with AvReader(path, progress.rate, progress.channels) as reader:
        for samples, rate in reader.read_blocks(skip=progress.done):
            progress.rate = rate
            progress.done += len(samples)
            yield samples, rate
        progress.damaged = reader.damaged
        progress.stated = progress.stated or reader.stated


def _find_faults(path: Path, progress: _Progress) -> list[str]:
    """Say how much is missing, or which other sign of damage there is."""
    size, stated_size = path.stat().st_size, read_stated_size(path)
    if stated_size is not None and stated_size > size:
        progress.stated = progress.seconds * stated_size / size
    if progress.lacks_some and not estimates_duration(path):
        return [
            f"only {progress.seconds:.1f} of {progress.stated:.1f} s decode: the file is truncated "
            "or damaged"
        ]
    if fault := find_fault(path):
        return [fault]
    if progress.damaged > FEW:
        return [f"{progress.damaged} damaged packets are left out"]
    return []
