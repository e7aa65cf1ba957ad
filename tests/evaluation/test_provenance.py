from genreclf.evaluation.provenance import collect_provenance


def test_provenance_names_what_computes() -> None:
    provenance = collect_provenance()
    assert {"python", "genreclf", "torch", "librosa"} <= set(provenance["versions"])
    commit = provenance["commit"]
    assert commit is None or len(commit.removesuffix("-dirty")) == 40
