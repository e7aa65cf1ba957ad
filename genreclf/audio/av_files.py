"""Opening a file with PyAV, which is FFmpeg's libraries in this process.

They are kept to the one file: its name is never taken for a protocol, and formats that refer to
other files or to the network, such as playlists, are refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from genreclf.audio import boxes
from genreclf.audio.checks import NO_DECODER, UNREADABLE, DecodeError, refuse_other_content

if TYPE_CHECKING:
    from genreclf.audio.sections import Section

# Formats of one file that holds audio itself.
FORMATS = (
    "aa,aac,aax,ac3,ac4,act,adx,aea,aiff,amr,amrnb,amrwb,ape,aptx,aptx_hd,asf,ast,au,avi,bonk,caf,"
    "codec2,dfpwm,dsf,dss,dts,dtshd,eac3,flac,flv,gsm,hca,iamf,iff,ilbc,ircam,kvag,laf,lc3,loas,"
    "matroska,mlp,mmf,mov,mp4,mp3,mpc,mpc8,mpeg,mpegts,mxf,nistsphere,nut,ogg,oma,osq,paf,pvf,qcp,"
    "qoa,rka,rm,rso,sbc,shn,sln,sol,sox,tak,truehd,tta,voc,vqf,w64,wav,wavarc,wsd,wtv,wv,wve,xwma"
)
# Their header says how long they are. For others FFmpeg estimates it from the bit rate.
STATES_DURATION = {
    *("aiff", "ape", "au", "caf", "dsf", "flac", "flv", "matroska", "mov", "mpc", "mpc8"),
    *("ogg", "rm", "tak", "tta", "w64", "wav", "wv"),
}
LOSSLESS = ("ape", "flac", "tak", "tta", "wv")  # those that state it in samples
SHORT = 0.5  # of the longest audio stream; shorter ones are chosen last
PROTECTED = "does not decode: it is encrypted (DRM)"
HEADERLESS = {  # whose names are all that says what they are
    *("aptx", "aptx_hd", "dfpwm", "gsm", "ilbc", "lc3", "sln", "vqf"),
}
ENCRYPTED = {"drms", "enca", "aavd", "drmi"}  # tags of codecs


def open_container(section: Section) -> Any:
    """Open a file with PyAV.

    Raises:
        DecodeError: FFmpeg cannot read it, it is encrypted, or it is no audio.
    """
    import av
    from av import logging
    from av.error import FFmpegError

    logging.set_level(logging.PANIC)  # what matters is reported here
    options = {"protocol_whitelist": "file,subfile", "format_whitelist": FORMATS}
    settings: Any = {"metadata_errors": "replace"}
    try:
        container = av.open(section.url, options=options, **settings)
    except (FFmpegError, OSError, ValueError):
        refuse_other_content(section.path)
        raise DecodeError(UNREADABLE) from None
    try:
        if container.format.name in HEADERLESS:
            refuse_other_content(section.path)
        with section.open() as file:
            if "mp4" in container.format.name and boxes.is_encrypted(file, section.size):
                raise DecodeError(PROTECTED)
    except DecodeError:
        container.close()
        raise
    return container


def list_streams(container: Any) -> list[Any]:
    """List the audio streams that can be decoded, in the order in which they should be tried.

    Those that are marked as default are the first, and those are the last that are much shorter
    than others, such as jingles.

    Raises:
        DecodeError: there is none.
    """
    from av.stream import Disposition

    streams = list(container.streams.audio)
    if not streams:
        found = container.streams.video
        raise DecodeError(f"does not decode: {'only pictures' if found else 'no audio'} in it")
    stated = {each.index: measure_stream(each) for each in streams}
    least = SHORT * max(stated.values())
    streams.sort(
        key=lambda each: (
            0 < stated[each.index] < least,
            Disposition.default not in each.disposition,
        )
    )
    usable = [each for each in streams if each.codec_context and not is_encrypted(each)]
    if usable:
        return usable
    if any(each.codec_context for each in streams):
        raise DecodeError(PROTECTED)
    raise DecodeError(NO_DECODER)


def measure_stream(stream: Any) -> float:
    """Return how many seconds a stream is said to have; 0 if the file does not say."""
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    numbers = stream.metadata.get("DURATION", "").split(":")  # of Matroska: 00:03:25.120000000
    try:
        hours, minutes, seconds = map(float, numbers)
    except ValueError:
        return 0.0
    return 3600 * hours + 60 * minutes + seconds


def is_encrypted(stream: Any) -> bool:
    """Whether a copy protection keeps a stream from being decoded."""
    try:
        return stream.codec_context.codec_tag in ENCRYPTED
    except UnicodeDecodeError:  # of a WAV file, it is a number
        return False


def read_duration(container: Any, stream: Any) -> float | None:
    """Return how many seconds of audio the header states, None if it does not say."""
    if STATES_DURATION.intersection(container.format.name.split(",")):
        if stream.duration and stream.time_base:
            return float(stream.duration * stream.time_base)
        if container.duration and not container.streams.video:
            return container.duration / 1e6
    return None
