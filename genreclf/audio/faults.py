"""What is wrong with a file of which less decodes than it should hold, or nothing."""

from dataclasses import dataclass, replace
from typing import BinaryIO

from genreclf.audio.boxes import lacks_index
from genreclf.audio.checks import NO_DECODER, NO_SAMPLES, ONLY_A_TAG, UNREADABLE, DecodeError
from genreclf.audio.endings import find_data_end, is_cut
from genreclf.audio.fields import check_fields
from genreclf.audio.following import ends_with_other
from genreclf.audio.headers import (
    estimates_duration,
    lacks_beginning,
    read_stated_size,
    skip_id3,
)
from genreclf.audio.sections import Section

TOLERANCE = 0.5  # s that may be missing, and .1 %: decoders differ in what they trim
MISCOUNT = 64  # bytes by which programs err that write headers; or .5 %
PRECISE = 0.02  # s, the same for lossless formats
MIN_BYTES = 10  # per second of audio beyond FIRST: silence in FLAC takes twice as many
LONGEST = 48 * 3600.0  # s beyond MIN_BYTES; no header that states more is believed
EMPTY = 0.01  # of a file, the least share of zeros at its end that is mentioned
FEW = 2  # packets that decoders reject without damage, such as the header of an MP3 file


@dataclass
class Progress:
    """How far a file has been read.

    Attributes:
        rate: sample rate in Hz; None before the first samples.
        channels: number of channels; None before the first samples.
        done: number of samples that were read.
        stated: seconds that the file should have; None if it does not say.
        is_lossless: whether the format states its exact number of samples.
        complete: whether libsndfile read all that is there.
        damaged: number of packets that PyAV could not decode.
        cut: whether the file ends within a packet.
        stopped: whether the rest of the file could not be read.
        end: about where the audio ended that libsndfile read; None if it read none.
        ends_sharply: whether nothing but audio and tags belongs into such a file.
        last: where the last packet ended that PyAV decoded; None if it decoded none.
        note: what else the listener should know.
    """

    rate: int | None = None
    channels: int | None = None
    done: int = 0
    stated: float | None = None
    is_lossless: bool = False
    complete: bool = False
    damaged: int = 0
    cut: bool = False
    stopped: bool = False
    end: int | None = None
    ends_sharply: bool = False
    last: int | None = None
    note: str | None = None

    @property
    def seconds(self) -> float:
        """Seconds that were read."""
        return self.done / self.rate if self.rate else 0.0

    @property
    def lacks_some(self) -> bool:
        """Whether the file should have more than what was read."""
        if self.stated is None:
            return False
        most = PRECISE if self.is_lossless else TOLERANCE
        return 0.999 * self.stated - self.seconds > most


def explain_failure(section: Section, progress: Progress, error: DecodeError) -> None:
    """Raise a DecodeError with the reason why nothing decodes, if there is one in the file."""
    if str(error) not in (UNREADABLE, NO_DECODER, NO_SAMPLES):
        return
    with section.open() as file:
        check_fields(file, section.size)
        if skip_id3(file) >= section.size:
            raise DecodeError(ONLY_A_TAG) from error
        if lacks_index(file, section.size):
            raise DecodeError(
                "does not decode: it ends before its index (moov), so it is truncated"
            ) from error
        if lacks_beginning(file, section.size):
            raise DecodeError("does not decode: its beginning is missing") from error
        if progress.cut or _is_truncated(file, section.size):
            raise DecodeError("does not decode: it is truncated") from error


def _is_truncated(file: BinaryIO, size: int) -> bool:
    stated = read_stated_size(file, size)
    return (stated is not None and stated - size > max(MISCOUNT, size // 200)) or is_cut(file, size)


def _include_zeros(section: Section) -> Section:
    """Return the section with the zeros behind it, if nothing else follows it in the file."""
    if section.stop is None:
        return section
    whole = replace(section, stop=None)
    with whole.open() as file:
        return whole if find_data_end(file, whole.size) <= section.size else section


def find_fault(section: Section, progress: Progress) -> str | None:
    """Say how much is missing, or what else the listener should know."""
    if section.is_rebuilt:
        return progress.note
    if section.patches and progress.complete:
        return "the header states less audio than there is: all of it is used"
    if section.patches:
        return "the file goes on after the audio that its header states, and that is not read"
    section = _include_zeros(section)
    size, seconds = section.size, progress.seconds
    with section.open() as file:
        stated = read_stated_size(file, size)
        if stated is not None and stated > size and not progress.lacks_some:
            progress.stated = seconds * stated / size
        lacks_some = progress.lacks_some and not estimates_duration(file)
        if progress.stated and lacks_some:
            if progress.stated > LONGEST + size / MIN_BYTES:
                return f"its header is damaged: it states {progress.stated / 3600:.0f} h of audio"
            return (
                f"only {seconds:.1f} of {progress.stated:.1f} s decode: the file is truncated or "
                "damaged"
            )
        if progress.cut or _is_truncated(file, size):
            empty = 1 - find_data_end(file, size) / size
            if empty > EMPTY:
                return f"the end of the file is missing: its last {empty:.0%} are zeros"
            return "the end of the file is missing: it is truncated"
    is_over = progress.end and progress.ends_sharply and not progress.complete
    if progress.end and is_over and ends_with_other(section, progress.end):
        kilobytes = (section.size - progress.end) // 1000
        return f"the file goes on after its audio, and that is not read: about {kilobytes:,} kB"
    if progress.stopped and progress.stated is None:
        return f"nothing after {seconds:.1f} s can be read: the file is truncated or damaged"
    if progress.damaged > FEW:
        return f"{progress.damaged} damaged packets are left out"
    return progress.note
