"""Sound files that libsndfile does not read, or not to their end, read with PyAV.

PyAV is FFmpeg's libraries in this process. They are kept to the one file: its name is never taken
for a protocol, and formats that refer to other files or to the network, such as playlists, are
refused.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from genreclf.audio.checks import DecodeError, check_format, refuse_other_content
from genreclf.audio.headers import find_late_start, lacks_index

if TYPE_CHECKING:
    import av

# Formats of one file that holds audio itself.
FORMATS = (
    "aa,aac,aax,ac3,ac4,act,adx,aea,aiff,amr,amrnb,amrwb,ape,aptx,aptx_hd,asf,ast,au,avi,bonk,caf,"
    "codec2,dfpwm,dsf,dss,dts,dtshd,eac3,flac,flv,gsm,hca,iamf,iff,ilbc,ircam,kvag,laf,lc3,loas,"
    "matroska,mlp,mmf,mov,mp4,mp3,mpc,mpc8,mpeg,mpegts,mxf,nistsphere,nut,ogg,oma,osq,paf,pvf,qcp,"
    "qoa,rka,rm,rso,sbc,shn,sln,sol,sox,tak,truehd,tta,voc,vqf,w64,wav,wavarc,wsd,wtv,wv,wve,xwma"
)
# Their header says how long they are. For others FFmpeg estimates it from the bit rate.
STATES_DURATION = {
    *("aiff", "ape", "asf", "au", "caf", "dsf", "flac", "flv", "matroska", "mov", "mpc", "mpc8"),
    *("ogg", "tak", "tta", "w64", "wav", "wv"),
}
ENCRYPTED = {"drms", "enca", "aavd", "drmi"}  # tags of codecs
SCALES = {"u1": 2.0**-7, "i2": 2.0**-15, "i4": 2.0**-31, "i8": 2.0**-63}  # of integer samples
BLOCK = 1 << 16  # samples that are yielded together, at least
EXACT = ("mp3", "flac", "wav")  # formats whose packets can be skipped; times of others are rounded
WARM_UP = 10.0  # s that are decoded before the first samples that are wanted, and dropped


class AvReader:
    """The first audio stream of a file, or the one that is marked as default.

    Args:
        path: the file.
        sample_rate: sample rate of the result in Hz; None for that of the first samples.
        channels: number of channels of the result; None for that of the first samples.

    Attributes:
        stated: seconds of audio according to the header; None if it says nothing.
        damaged: number of packets that did not decode, so far.

    Raises:
        DecodeError: FFmpeg cannot read it, or it has no audio.
    """

    def __init__(
        self, path: Path, sample_rate: int | None = None, channels: int | None = None
    ) -> None:
        self.damaged, self._rate = 0, sample_rate or 0
        self._path, self._channels = path, channels
        self._at = 0  # number of the next sample
        self._resampler: av.AudioResampler | None = None
        self._resampled: tuple[int, str, str] | None = None  # rate, layout, format of its input
        self._container = _open(path)
        try:
            self._stream = self._choose_stream()
        except DecodeError:
            self._container.close()
            raise
        self._stream.codec_context.thread_count = 1  # other processes have the other cores
        stream, container, self.stated = self._stream, self._container, None
        if STATES_DURATION.intersection(container.format.name.split(",")):
            if stream.duration and stream.time_base:
                self.stated = float(stream.duration * stream.time_base)
            elif container.duration and not container.streams.video:
                self.stated = container.duration / 1e6

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._container.close()

    def _choose_stream(self) -> Any:
        from av.stream import Disposition

        streams = list(self._container.streams.audio)
        if not streams:
            found = self._container.streams.video
            raise DecodeError(f"does not decode: {'only pictures' if found else 'no audio'} in it")
        marked = [each for each in streams if Disposition.default in each.disposition]
        stream = (marked or streams)[0]
        context = stream.codec_context
        if context is None:
            raise DecodeError("does not decode: FFmpeg has no decoder for its codec")
        if context.codec_tag in ENCRYPTED:
            raise DecodeError("does not decode: it is encrypted (DRM)")
        return stream

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
            empty = False
            parts.append(samples[max(0, skip - self._at) :])
            self._at += len(samples)
            if sum(map(len, parts)) >= BLOCK:
                yield np.concatenate(parts), self._rate
                parts = []
        if parts:
            yield np.concatenate(parts), self._rate
        if empty:
            refuse_other_content(self._path)
            raise DecodeError("does not decode: there are no samples in it")

    def _read_packets(self) -> Iterator[av.Packet]:
        from av.error import FFmpegError

        try:
            yield from self._container.demux(self._stream)
        except (FFmpegError, OSError):  # the rest cannot be read
            self.damaged += 1

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
                continue
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
        if frame.sample_rate == self._rate:
            yield self._arrange(frame)
            return
        if self._resampler is None:
            self._resampled = key
            self._resampler = av.AudioResampler("fltp", frame.layout, self._rate)
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


def _open(path: Path) -> Any:
    import av
    from av import logging
    from av.error import FFmpegError

    logging.set_level(logging.PANIC)  # what matters is reported here
    options = {"protocol_whitelist": "file", "format_whitelist": FORMATS}
    name = f"file:{path.absolute()}"
    settings: Any = {"metadata_errors": "replace"}
    try:
        return av.open(name, options=options, **settings)
    except (FFmpegError, OSError, ValueError):
        with contextlib.suppress(FFmpegError, OSError, ValueError):
            if late := find_late_start(path):
                kind, skipped = late
                options["skip_initial_bytes"] = str(skipped)
                return av.open(name, format=kind, options=options, **settings)
        if lacks_index(path):
            raise DecodeError(
                "does not decode: it ends before its index (moov), so it is truncated"
            ) from None
        refuse_other_content(path)
        raise DecodeError("does not decode: neither libsndfile nor FFmpeg can read it") from None
