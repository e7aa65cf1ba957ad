"""The samples of sound files as stored: all of them, or a note about what is missing.

libsndfile reads most files, and fastest. It stops early where a file holds more than its header or
its first stream says: an MP3 file of variable bit rate without a Xing header, or a WAV file whose
writer never filled in its size. PyAV then goes on from there, as it does where libsndfile fails.
Files that were joined are read one after the other, at the sample rate of the first.
"""

from collections.abc import Generator
from pathlib import Path

import numpy as np
import soundfile

from genreclf.audio.av_reader import AvReader
from genreclf.audio.checks import (
    NO_SAMPLES,
    ONLY_A_TAG,
    UNREADABLE,
    check_file,
    check_format,
    refuse_other_content,
)
from genreclf.audio.checks import DecodeError as DecodeError
from genreclf.audio.faults import MIN_BYTES, Progress, explain_failure, find_fault
from genreclf.audio.fields import check_fields, check_layout
from genreclf.audio.following import find_behind_tag
from genreclf.audio.headers import find_late_start
from genreclf.audio.joined import find_sections, holds_several_streams, insert_later_files
from genreclf.audio.sections import Section

GAIN = 0.2  # s that PyAV must read more than libsndfile to be asked
UNREAD = 4096  # bytes; so few after the end of the audio hold no more of it
BLOCK = 60  # s that are read together, at most
FIRST = 3600.0  # s
STEP = 0.5  # s that are read in one call
MOST_FRAMES = 1 << 50  # libsndfile's number is far above if a header does not say


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
    refuse_other_content(path, by_signature=True)
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


def _read_blocks(
    path: Path, duration: float, notes: list[str]
) -> Generator[tuple[np.ndarray, int]]:
    """Yield samples (n, channels) and their rate; of a file that begins late, too."""
    try:
        yield from _read_sections(find_sections(path), duration, notes)
        return
    except DecodeError as error:
        with path.open("rb") as file:
            is_hidden = str(error) in (UNREADABLE, NO_SAMPLES, ONLY_A_TAG)
            start = find_late_start(file) or find_behind_tag(file) if is_hidden else 0
        if not start:
            raise
        reason = error
    try:
        yield from _read_sections(find_sections(path, start), duration, notes)
    except DecodeError:
        raise reason from None


def _read_sections(
    sections: list[Section], duration: float, notes: list[str]
) -> Generator[tuple[np.ndarray, int]]:
    """Yield samples (n, channels) and their rate, the same for all files that were joined."""
    first, failed, number = Progress(), 0, 0
    while number < len(sections):
        progress = Progress(first.rate, first.channels)
        try:
            yield from _read_section(sections, number, duration, progress)
            fault = find_fault(sections[number], progress)
            first = first if first.done else progress
        except DecodeError as error:
            failed += 1
            if failed == len(sections):
                raise
            fault = str(error)
        start, number = sections[number].start, number + 1
        if fault and len(sections) > 1:
            where = f"number {number}, from byte {start:,} on"
            fault = f"of {len(sections)} files in this one, {where}: {fault}"
        notes += [fault] if fault else []


def _read_section(
    sections: list[Section], number: int, duration: float, progress: Progress
) -> Generator[tuple[np.ndarray, int]]:
    """Yield libsndfile's samples, then those that only PyAV reads; insert files that follow."""
    failed = holds_several_streams(sections[number])
    with sections[number].open() as file:
        progress.note = check_layout(file, sections[number].size)
    if not failed:
        try:
            yield from _read_with_libsndfile(sections[number], duration, progress)
        except soundfile.LibsndfileError:
            failed = True
    if progress.complete:
        return
    if insert_later_files(sections, number, progress.end) and progress.ends_sharply:
        progress.complete = True
        return
    section = sections[number]
    if progress.is_lossless and progress.stated is not None and not progress.lacks_some:
        return  # FFmpeg would search all that follows for another frame
    if failed or not progress.done or _has_more(section, progress.seconds + GAIN):
        try:
            yield from _read_with_pyav(section, progress)
        except DecodeError as error:
            if not progress.done:
                explain_failure(section, progress, error)
                raise
        if insert_later_files(sections, number, progress.last):
            progress.damaged, progress.stopped, progress.cut = 0, False, False


def _read_with_libsndfile(
    section: Section, duration: float, progress: Progress
) -> Generator[tuple[np.ndarray, int]]:
    with section.open() as file, _Stream(file) as sound:
        try:
            check_format(sound.samplerate, sound.channels)
        except DecodeError:
            check_fields(file, section.size)  # libsndfile takes 0 Hz for 1 Hz
            raise
        if progress.rate and (sound.samplerate, sound.channels) != (
            progress.rate,
            progress.channels,
        ):
            return  # it cannot convert
        progress.rate, progress.channels = sound.samplerate, sound.channels
        progress.is_lossless = sound.format == "FLAC"
        if sound.frames < MOST_FRAMES:
            progress.stated = sound.frames / sound.samplerate
        size = max(1, int(min(duration, BLOCK) * sound.samplerate))
        while len(samples := _read_block(sound, size)):
            progress.done += len(samples)
            yield samples, sound.samplerate
        progress.cut = sound.format == "VOC" and "truncated file" in sound.extra_info
        progress.end = file.tell()
        progress.ends_sharply = sound.format in ("FLAC", "OGG")
        unread = section.size - file.tell()
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


def _has_more(section: Section, seconds: float) -> bool:
    """Whether PyAV would read more than that."""
    try:
        with AvReader(section) as reader:
            return reader.has_more_than(seconds)
    except DecodeError:
        return False


def _read_with_pyav(section: Section, progress: Progress) -> Generator[tuple[np.ndarray, int]]:
    """Go on where libsndfile stopped, at its sample rate and with its number of channels."""
    with AvReader(section, progress.rate, progress.channels) as reader:
        progress.is_lossless = progress.is_lossless or reader.is_lossless
        try:
            for samples, rate in reader.read_blocks(skip=progress.done):
                progress.rate, progress.ends_sharply = rate, False
                progress.channels = samples.shape[1]
                progress.done += len(samples)
                yield samples, rate
        finally:
            progress.damaged, progress.cut = reader.damaged, reader.cut
            progress.stopped, progress.note = reader.stopped, reader.note or progress.note
            progress.last = reader.end
            progress.stated = progress.stated or reader.stated
