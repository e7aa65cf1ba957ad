"""The built-in dataset: generated clips by invented artists, as real audio files."""

import shutil
import uuid
from pathlib import Path

import mutagen
import numpy as np
import soundfile

from genreclf.data.datasets import synthesis
from genreclf.data.datasets.folder import Folder
from genreclf.errors import InputError
from genreclf.files import GENERATED
from genreclf.paths import name_sibling


class Synthetic(Folder):
    """Generated clips, written once as tagged MP3 files under `root` and then read like any folder.

    Args:
        root: folder for the files; created if it does not exist.
        duration: length of a clip in seconds.
        artists: number of artists per genre; there are four genres.
        clips: number of clips per artist; each artist has two albums.
        seed: the same seed gives the same clips.
    """

    name = "synthetic"

    def __init__(
        self,
        root: str | Path,
        duration: float = 6,
        artists: int = 10,
        clips: int = 4,
        seed: int = 0,
    ) -> None:
        if artists < 1 or clips < 1 or duration < 2:
            raise InputError("data: artists and clips of at least 1 and duration of 2 s are needed")
        recipe = f"seed{seed}-{artists}x{clips}-{duration:g}s"
        super().__init__(Path(root) / recipe, duration)
        self.artists, self.clips, self.seed = artists, clips, seed

    def files(self) -> list[tuple[str, Path]]:
        """List the files like `Folder.files`, after writing the clips if they do not exist yet."""
        if not self.root.is_dir():
            self._write()
        return super().files()

    def _write(self) -> None:
        unfinished = name_sibling(self.root, f".{uuid.uuid4().hex[:12]}.partial")
        try:
            self._write_clips(unfinished)
            unfinished.rename(self.root)
        except OSError:
            if not self.root.is_dir():  # else another process was faster, with the same clips
                raise
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)

    def _write_clips(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        (folder / GENERATED).touch()
        rng = np.random.default_rng(self.seed)
        for genre in synthesis.GENRES:
            for number in range(self.artists):
                artist = synthesis.invent_artist(genre, number, rng)
                for clip in range(self.clips):
                    waveform = synthesis.render(artist, self.duration, rng)
                    path = folder / genre / f"{number + 1:02d}-{clip + 1:02d}.mp3"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    soundfile.write(path, waveform, synthesis.RATE)
                    _write_tags(path, artist.name, f"Album {1 + clip % 2}", f"Clip {clip + 1}")


def _write_tags(path: Path, artist: str, album: str, title: str) -> None:
    file = mutagen.File(path, easy=True)  # pyright: ignore[reportPrivateImportUsage]
    if file is None:
        raise RuntimeError(f"{path}: just written, yet not recognised as audio")
    file["artist"], file["album"], file["title"] = artist, f"{artist}: {album}", title
    file.save()
