"""Sound files that libsndfile does not read, or not to their end, read with PyAV."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from genreclf.audio.av_files import (
    LOSSLESS,
    SHORT,
    list_streams,
    measure_stream,
    open_container,
    read_duration,
)
from genreclf.audio.checks import (
    NO_SAMPLES,
    DecodeError,
    check_format,
    refuse_other_content,
)
from genreclf.audio.frames import is_incomplete
from genreclf.audio.silence import measure_blocks

if TYPE_CHECKING:
    import av

    from genreclf.audio.sections import Section

SCALES = {"u1": 2.0**-7, "i2": 2.0**-15, "i4": 2.0**-31, "i8": 2.0**-63}  # of integer samples
BLOCK = 1 << 16  # samples that are yielded together, at least
EXACT = ("mp3", "flac", "wav")  # formats whose packets can be skipped; times of others are rounded
WARM_UP = 10.0  # s that are decoded before the first samples that are wanted, and dropped
AUDITION = 600.0  # s in which the first of several streams must have a sound
SIZED = ("wav", "w64", "aiff", "au", "caf")  # read in blocks of any size, so the last may be short
FEW_BYTES = 4096  # behind the audio, which hold no more of it
ANY_FAULT = ("amr",)  # formats whose last packet is cut if it does not decode
MOST_PLANES = 7  # of a planar frame that PyAV turns into an array; it reads one behind the last
UNSUPPORTED = ("s64", "s64p")  # formats of samples that it turns into none


class AvReader:
    """An audio stream of a file: the first that is not silent, or the one marked as default.

    Args:
        section: the file.
        sample_rate: sample rate of the result in Hz; None for that of the first samples.
        channels: number of channels of the result; None for that of the first samples.
        index: number of the stream in the file; None to choose one.

    Attributes:
        stated: seconds of audio according to the header; None if it says nothing.
        is_lossless: whether the format states its exact number of samples.
        damaged: number of packets that did not decode, so far.
        cut: whether the file ends within the last packet that was read.
        stopped: whether the rest of the file could not be read.
        end: where the last packet ended that decoded; None before that.
        note: why it is not the first stream that is read, or None.

    Raises:
        DecodeError: FFmpeg cannot read it, or it has no audio.
    """

    def __init__(
        self,
        section: Section,
        sample_rate: int | None = None,
        channels: int | None = None,
        index: int | None = None,
    ) -> None:
        self.damaged, self.cut, self.stopped = 0, False, False
        self._rate = sample_rate or 0
        self.end: int | None = None
        self.note: str | None = None
        self._section, self._channels = section, channels
        self._at = 0  # number of the next sample
        self._resampler: av.AudioResampler | None = None
        self._resampled: tuple[int, str, str] | None = None  # rate, layout, format of its input
        self._container = open_container(section)
        try:
            self._stream = self._choose_stream(index)
        except DecodeError:
            self._container.close()
            raise
        self._stream.codec_context.thread_count = 1  # other processes have the other cores
        self.stated = read_duration(self._container, self._stream)
        self.is_lossless = self._container.format.name in LOSSLESS

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._container.close()

    def _choose_stream(self, index: int | None) -> Any:
        """Return the stream of this number, or the first of `list_streams` that is heard."""
        if index is not None:
            return self._container.streams[index]
        streams = list_streams(self._container)
        if len(streams) == 1:
            return streams[0]
        first = self._container.streams.audio[0]
        for place, stream in enumerate(streams):
            with AvReader(self._section, index=stream.index) as other:
                if other.is_audible():
                    if place:
                        self.note = self._note_choice("silent", stream)
                    elif measure_stream(first) < SHORT * measure_stream(stream):
                        self.note = self._note_choice("much shorter", stream)
                    return stream
        return streams[0]

    def _note_choice(self, what: str, stream: Any) -> str:
        count = len(self._container.streams)
        return f"the first audio stream is {what}: stream {stream.index} of {count} is used"

    def is_audible(self) -> bool:
        """Whether any sample of the first minutes is above -80 dB of full scale."""
        done = 0
        try:
            for samples, rate in self.read_blocks():
                done += len(samples)
                channels = samples.T if len(samples) else []
                if not all(measure_blocks(each, rate).silent.all() for each in channels):
                    return True
                if done > AUDITION * rate:
                    break
        except DecodeError:
            pass
        return False

    def has_more_than(self, seconds: float) -> bool:
        """Whether the packets are longer than that in total; ends the reading without decoding."""
        unit = float(self._stream.time_base or 0)
        left = seconds / unit if unit else math.inf
        for packet in self._read_packets():
            left -= packet.duration or 0
            if left < 0:
                return True
        return False

    def read_blocks(self, skip: int = 0) -> Iterator[tuple[np.ndarray, int]]:
        """Yield all samples after the first `skip`, float32 (n, channels), and their rate in Hz.

        Packets that do not decode are left out, as the program ffmpeg does.

        Raises:
            DecodeError: nothing decodes, or the samples are of a rate or number of channels that
                no audio has.
        """
        parts: list[np.ndarray] = []
        empty = True
        for samples in self._read_samples(skip / self._rate if self._rate else 0.0):
            empty = empty and not len(samples)
            parts.append(samples[max(0, skip - self._at) :])
            self._at += len(samples)
            if sum(map(len, parts)) >= BLOCK:
                yield np.concatenate(parts), self._rate
                parts = []
        if parts:
            yield np.concatenate(parts), self._rate
        if empty:
            refuse_other_content(self._section.path)
            raise DecodeError(NO_SAMPLES)

    def _read_packets(self) -> Iterator[av.Packet]:
        from av.error import FFmpegError

        last = None
        try:
            for packet in self._container.demux(self._stream):
                if packet.size:
                    last = packet
                    self.cut = packet.is_corrupt and self._container.format.name not in SIZED
                yield packet
        except (FFmpegError, IndexError, OSError):  # the rest cannot be read
            read = 0 if last is None or last.pos is None else last.pos + last.size
            self.stopped = self._section.size - read > FEW_BYTES
        if last is not None and is_incomplete(self._stream.codec_context.name, bytes(last)):
            self.cut = True

    def _read_samples(self, wanted: float) -> Iterator[np.ndarray]:
        """Yield samples (n, channels), at the latest from `wanted` seconds on."""
        from av.error import FFmpegError

        base, jumping, skipped = None, False, -math.inf  # base: time of the first frame in s
        previous = -math.inf
        for packet in self._read_packets():
            if packet.pts is not None:
                if packet.pts < previous:  # a second FLAC file begins: all of it is wanted
                    skipped = -math.inf
                previous = packet.pts
            if packet.pts is not None and packet.pts < skipped:
                jumping = True
                continue
            if jumping:
                self._stream.codec_context.flush_buffers()
            try:
                frames: Any = packet.decode()
            except (FFmpegError, OSError, ValueError):
                self.damaged += 1
                self.cut = self.cut or self._container.format.name in ANY_FAULT
                continue
            if frames and packet.pos is not None:
                self.end = packet.pos + packet.size
            for frame in frames:
                if jumping and base is not None and frame.time is not None:
                    self._at = round((frame.time - base) * self._rate)
                    jumping = False
                if base is None and frame.time is not None:
                    base = frame.time
                    if self._container.format.name in EXACT:
                        skipped = (base + wanted - WARM_UP) / float(self._stream.time_base)
                yield from self._convert(frame)
        yield from self._convert(None)

    def _convert(self, frame: Any) -> Iterator[np.ndarray]:
        """Convert a frame to samples at one rate, that of the first frame; None is the end."""
        import av

        key = None if frame is None else (frame.sample_rate, frame.layout.name, frame.format.name)
        if self._resampler is not None and self._resampled != key:  # the rate changes
            for last in self._resampler.resample(None):
                yield self._arrange(last)
            self._resampler = None
        if frame is None:
            return
        try:
            check_format(frame.sample_rate, len(frame.layout.channels))
        except DecodeError:
            if not self._rate:
                raise
            self.damaged += 1  # within a file, it is damage
            return
        self._rate = self._rate or frame.sample_rate
        self._channels = self._channels or len(frame.layout.channels)
        many = len(frame.layout.channels) > MOST_PLANES
        packed = (many and frame.format.is_planar) or frame.format.name in UNSUPPORTED
        if frame.sample_rate == self._rate and not packed:
            yield self._arrange(frame)
            return
        if self._resampler is None:
            self._resampled = key
            kind = "flt" if many or packed else "fltp"
            self._resampler = av.AudioResampler(kind, frame.layout, self._rate)
        frame.pts = None  # a gap is not filled with silence
        for each in self._resampler.resample(frame):
            yield self._arrange(each)

    def _arrange(self, frame: Any) -> np.ndarray:
        """Return the samples of a frame as float32 (n, channels), always of as many channels."""
        values, channels = frame.to_ndarray(), len(frame.layout.channels)
        samples = values.T if frame.format.is_planar else values.reshape(-1, channels)
        if scale := SCALES.get(samples.dtype.str[1:]):
            middle = 128 if samples.dtype == np.uint8 else 0
            samples = (samples.astype(np.float64) - middle) * scale
        samples = samples.astype(np.float32)
        wanted = self._channels or channels
        if channels != wanted:
            return np.repeat(samples.mean(axis=1, keepdims=True), wanted, axis=1)
        return samples
