"""Files that do not say how long they are, and end within one of their parts."""

import subprocess
import sys
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
import soundfile
from encode import RATE, encode, make_music, run_ffmpeg

from genreclf.audio import decode
from genreclf.audio.following import find_next_file
from genreclf.audio.sections import Section

CUT = "the end of the file is missing: it is truncated"


def read(path: Path) -> tuple[float, list[str]]:
    notes: list[str] = []
    waveform, rate = decode.read_audio(path, None, 60, notes)
    return len(waveform) / rate, notes


FORMATS = {  # the arguments of the program ffmpeg; with "pipe", it cannot write the size
    "a.flac": ["pipe", "-f", "flac"],
    "a.wma": ["pipe", "-f", "asf", "-c:a", "wmav2"],
    "a.ogg": ["-c:a", "libopus"],
    "a.voc": ["-c:a", "pcm_s16le"],
    "a.sbc": ["-c:a", "sbc", "-b:a", "320k"],
    "a.thd": ["-c:a", "truehd", "-strict", "-2"],
    "a.mlp": ["-c:a", "mlp", "-strict", "-2"],
    "a.mp3": ["-write_xing", "0", "-b:a", "128k"],
}


@pytest.mark.parametrize("name", FORMATS)
def test_what_ends_within_a_part_is_truncated_c11(tmp_path: Path, name: str) -> None:
    """C11: the whole file has no note, and half of it has one."""
    options = FORMATS[name]
    soundfile.write(tmp_path / "a.wav", make_music(5), RATE)
    path = tmp_path / name
    if options[0] == "pipe":
        write_through_pipe(path, "-i", tmp_path / "a.wav", *options[1:])
    else:
        run_ffmpeg("-i", tmp_path / "a.wav", *options, path)
    content = path.read_bytes()
    assert read(path) == (pytest.approx(5, abs=0.1), [])
    path.write_bytes(content[: int(0.601 * len(content))])
    seconds, notes = read(path)
    assert seconds == pytest.approx(3, abs=0.7)
    assert notes == [CUT]


def write_through_pipe(path: Path, *arguments: object) -> None:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", *map(str, arguments), "-"]
    path.write_bytes(subprocess.run(command, check=True, capture_output=True).stdout)


def test_a_film_for_broadcasts_that_is_cut_says_so_c11(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", make_music(5, rate=48000), 48000)
    path = tmp_path / "a.mxf"
    picture = ("-f", "lavfi", "-i", "testsrc=d=5:s=160x120:r=25", "-c:v", "mpeg2video")
    run_ffmpeg(*picture[:4], "-i", tmp_path / "a.wav", *picture[4:], "-c:a", "pcm_s16le", path)
    assert read(path)[1] == []
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    assert read(path)[1] == [CUT]


def test_mp3_frames_of_free_format_are_followed_c11(tmp_path: Path) -> None:
    """C11: their header does not say the bit rate, so the first two tell how long each is."""
    soundfile.write(tmp_path / "a.wav", make_music(5, rate=48000), 48000)
    path = tmp_path / "a.mp3"
    bare = ("-b:a", "192k", "-write_xing", "0", "-id3v2_version", "0")
    run_ffmpeg("-i", tmp_path / "a.wav", *bare, path)
    content = bytearray(path.read_bytes())
    for at in range(0, len(content), 576):
        content[at + 2] &= 0x0F
    path.write_bytes(content)
    assert read(path)[1] == []
    path.write_bytes(content[: len(content) // 2 + 100])
    assert read(path)[1] == [CUT]


@pytest.mark.parametrize("name", ["a.mp3", "a.aac", "a.ogg", "a.opus", "a.flac"])
def test_a_file_whose_second_half_was_never_written_says_so_c11(tmp_path: Path, name: str) -> None:
    """C11: programs that download reserve the space first; zeros behind a whole file are none."""
    soundfile.write(tmp_path / "a.wav", make_music(12), RATE)
    options = {"a.mp3": ["-write_xing", "0"], "a.aac": ["-c:a", "aac"]}.get(name, ())
    path = tmp_path / name
    if name == "a.flac":
        write_through_pipe(path, "-i", tmp_path / "a.wav", "-f", "flac")
    else:
        run_ffmpeg("-i", tmp_path / "a.wav", *options, path)
    content = path.read_bytes()
    half = len(content) // 2
    path.write_bytes(content + bytes(200_000))
    assert read(path)[1] == []
    path.write_bytes(content[:half] + bytes(half))
    seconds, notes = read(path)
    assert seconds == pytest.approx(6, abs=1.5)
    assert notes == ["the end of the file is missing: its last 50% are zeros"]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_following_frames_takes_no_memory(tmp_path: Path) -> None:
    """Pages of a mapped file count as memory of the process, of which it may use 1.5 GB."""
    song = encode(tmp_path / "a.mp3", make_music(10), "libmp3lame").read_bytes()
    path = tmp_path / "b.mp3"
    with path.open("wb") as file:
        for _ in range(64_000_000 // len(song)):
            file.write(song)
    code = r"""if True:
        import re, sys
        from pathlib import Path
        from genreclf.audio import following
        from genreclf.audio.sections import Section

        def measure_peak():
            return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1])

        before = measure_peak()
        following._follow_frames(Section(Path(sys.argv[1])), 0, lambda _: 417, None)
        print(measure_peak() - before)
    """
    command = [sys.executable, "-c", code, str(path)]
    process = subprocess.run(command, check=True, capture_output=True, text=True)
    assert int(process.stdout) < 20_000  # KiB


def test_frames_are_followed_over_the_bounds_of_what_is_read_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from genreclf.audio import following

    song = encode(tmp_path / "a.mp3", make_music(10), "libmp3lame").read_bytes()
    other = b"fLaC\0\0\0\x22" + np.random.default_rng(0).bytes(99_999)
    (tmp_path / "b.mp3").write_bytes(song + other)
    found = []
    for stretch in (following.STRETCH, 1000):
        monkeypatch.setattr(following, "STRETCH", stretch)
        found.append(find_next_file(Section(tmp_path / "b.mp3"), None))
    assert found[0] == found[1] == (len(song), len(song))
