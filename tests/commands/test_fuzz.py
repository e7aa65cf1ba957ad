from pathlib import Path

import fuzz
import pytest


@pytest.mark.slow
def test_damaged_files_are_answered_once_each(music: Path, tmp_path: Path) -> None:
    """C4, C11: whatever is wrong with a file, it has one answer and stops no other."""
    fuzz.write_mutations(music, tmp_path, count=30, seed=1, clips=2)
    outcome = fuzz.predict_folder(tmp_path)
    assert not outcome.faults
    assert len(outcome.answers) == 30
    kinds = {fuzz.classify(answer) for answer in outcome.answers.values()}
    assert "predicted" in kinds
    assert any(kind.startswith("does not decode") for kind in kinds)
    assert "| .mp3 | .flac |" in fuzz.format_table(outcome.answers)
