"""Names that differ by a number are written as one, and none is lost."""

from mtp_regression.coverage.number_ranges import with_ranges


def test_number_ranges_hold_every_name() -> None:
    names = [
        f"layers.{layer}.fc{fc}.weight{expert}" for layer in (0, 1) for fc in (1, 2) for expert in range(9)
    ]
    assert with_ranges(names) == ["layers.{0..1}.fc{1..2}.weight{0..8}"]
    names.remove("layers.1.fc2.weight4")
    assert with_ranges(names) == [
        "layers.0.fc{1..2}.weight{0..8}",
        "layers.1.fc1.weight{0..8}",
        "layers.1.fc2.weight{0..3,5..8}",
    ]
    assert with_ranges(["a", "w007", "w7", "w9", "w9"]) == ["a", "w007", "w{7,9}"]
