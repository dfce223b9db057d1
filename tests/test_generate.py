"""The command `python -m models.generate`."""

import hashlib
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from models.attributes import AttributeTable, measure
from models.config import ModelConfig
from models.generate import main, parse_classes
from models.generator_file import GeneratorFileError, generator_bytes, load_generator, read_generator
from models.networks import build_generator
from models.pictures import frames, read_note
from models.sampling import one_hot
from models.views import ExploreView, GenerateView, InterpolateView
from tests.test_prompt import noise
from trainer.data import load_dataset

FIELDS = {"architecture": "forge", "z_dim": 6, "g_widths": (8, 4), "d_widths": (4, 8, 8)}


@pytest.fixture
def generator_file(tmp_path: Path) -> Path:
    return write_generator(tmp_path / "generator.safetensors", ModelConfig(**FIELDS))


def write_generator(path: Path, config: ModelConfig) -> Path:
    torch.manual_seed(0)
    path.write_bytes(generator_bytes(build_generator(config), config, {"run": "test"}))
    return path


def run(generator: Path, *arguments: str) -> int:
    return main(["--generator", str(generator), *arguments])


def test_an_npz_holds_images_and_labels_class_by_class(generator_file: Path, tmp_path: Path) -> None:
    assert run(generator_file, "--digit", "6,0-1", "--count", "3", "--out", str(tmp_path / "x.npz")) == 0
    with np.load(tmp_path / "x.npz") as file:
        assert file["images"].shape == (9, 28, 28)
        assert file["images"].dtype == np.uint8
        assert file["labels"].tolist() == [6, 6, 6, 0, 0, 0, 1, 1, 1]


def test_picture_k_of_every_class_has_seed_plus_k(generator_file: Path, tmp_path: Path) -> None:
    def images(*arguments: str) -> np.ndarray:
        assert run(generator_file, *arguments, "--out", str(tmp_path / "x.npz")) == 0
        with np.load(tmp_path / "x.npz") as file:
            return file["images"]

    many = images("--digit", "0-9", "--count", "4", "--seed", "5")
    alone = images("--digit", "3", "--count", "1", "--seed", "7")
    assert (many[3 * 4 + 2] == alone[0]).all()
    assert (many[3 * 4 + 1] != alone[0]).any()


def drawn(generator: Path, out: Path, *arguments: str) -> tuple[np.ndarray, list[int]]:
    """Return the images and the labels that a call of the command writes."""
    assert run(generator, *arguments, "--out", str(out)) == 0
    with np.load(out) as file:
        return file["images"], file["labels"].tolist()


def test_a_prompt_draws_what_the_options_draw_and_says_what_each_part_moves(
    generator_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "x.npz"
    images, labels = drawn(generator_file, out, "--prompt", "a typical seven, seed 21")
    assert capsys.readouterr().out.splitlines() == [
        "typical -> truncation 0.5",
        "seven -> digit 7",
        "seed 21 -> seed 21",
        f"Wrote 1 picture to {out}",
    ]
    wanted, _ = drawn(generator_file, out, "--digit", "7", "--seed", "21", "--truncation", "0.5", "--count", "1")
    assert labels == [7]
    assert (images == wanted).all()
    assert drawn(generator_file, out, "--prompt", "digits", "--count", "2", "--seed", "3")[1] == sorted(
        [*range(10)] * 2
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--prompt", "a thikc seven"], "--prompt: 'thikc' is not known; the nearest word is 'thick'"),
        (["--prompt", "a thick seven"], "--prompt: 'thick': this generator does not take a thickness"),
        (["--prompt", "a seven by writer 2154"], "--prompt: 'by writer 2154': this generator has no writers"),
        (["--prompt", "a seven", "--digit", "7"], "--digit and --prompt both set the digit"),
        (["--prompt", "seed 7", "--seed", "0"], "--seed and --prompt both set the seed"),
        (["--prompt", "varied", "--truncation", "1"], "--truncation and --prompt both set the truncation"),
        (["--prompt", ""], "--prompt: the prompt asks for nothing"),
    ],
)
def test_a_prompt_that_cannot_be_drawn_gets_one_line(
    generator_file: Path, tmp_path: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(generator_file, *arguments, "--out", str(tmp_path / "x.png")) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "x.png").exists()


def test_a_prompt_names_no_class_of_an_unconditional_generator(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    generator = write_generator(tmp_path / "g.safetensors", ModelConfig(**FIELDS, num_classes=0))
    assert run(generator, "--prompt", "a seven", "--out", str(tmp_path / "x.png")) == 2
    assert "--prompt: 'seven': this generator draws without classes" in capsys.readouterr().err
    assert drawn(generator, tmp_path / "x.npz", "--prompt", "typical, seed 3")[1] == [-1]


@pytest.mark.parametrize("count", [100, pytest.param(10_000, marks=[pytest.mark.long, pytest.mark.timeout(1200)])])
def test_any_prompt_gives_a_picture_or_one_line(
    generator_file: Path, tmp_path: Path, count: int, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "x.png"
    for text in noise(seed=5, count=count):
        status = run(generator_file, f"--prompt={text}", "--out", str(out))
        assert (status, capsys.readouterr().err.count("\n"), out.exists()) in ((0, 0, True), (2, 1, False)), text
        out.unlink(missing_ok=True)


def test_a_png_holds_a_row_for_each_class_and_one_class_fills_a_square(generator_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "six.png"
    assert run(generator_file, "--digit", "6", "--out", str(out)) == 0
    assert Image.open(out).size == (4 * 28 * 4, 4 * 28 * 4)
    assert run(generator_file, "--digit", "1,2", "--count", "5", "--out", str(out)) == 0
    assert Image.open(out).size == (5 * 28 * 4, 2 * 28 * 4)


def test_an_unconditional_generator_takes_no_digit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    generator = write_generator(tmp_path / "g.safetensors", ModelConfig(**FIELDS, num_classes=0))
    assert run(generator, "--digit", "6", "--out", str(tmp_path / "x.npz")) == 2
    assert "this generator draws without classes" in capsys.readouterr().err
    assert run(generator, "--count", "5", "--out", str(tmp_path / "x.npz")) == 0
    with np.load(tmp_path / "x.npz") as file:
        assert file["images"].shape == (5, 28, 28)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--digit", "11"], "--digit must be one of 0 to 9"),
        (["--digit", "9-0"], "--digit must be one of 0 to 9"),
        (["--digit", "six"], "--digit must be one of 0 to 9"),
        (["--digit", ""], "--digit must be one of 0 to 9"),
        (["--count", "0"], "--count must be at least 1"),
        (["--count", "1000000"], "--count must be at least 1"),
        (["--seed", "-1"], "--seed"),
        (["--seed", "4294967290"], "--seed"),
        (["--truncation", "1.5"], "truncation must be between 0 and 1"),
        (["--out", "digits.gif"], "--out must end in .png or .npz"),
        (["--out", "no/such/folder/digits.png"], "cannot be written"),
    ],
)
def test_bad_input_gets_one_line(
    generator_file: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(generator_file, *arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_an_unknown_flag_gets_one_line(generator_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        run(generator_file, "--bogus")
    assert end.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_missing_or_damaged_generator_file_gets_one_line_and_nothing_is_overwritten(
    generator_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "six.png"
    out.write_bytes(b"precious")
    content = generator_file.read_bytes()
    for damaged in (b"", content[:100], content[:-1], b"\0" * 1000, content.replace(b'"F32"', b'"F16"', 1)):
        generator_file.write_bytes(damaged)
        assert run(generator_file, "--digit", "6", "--out", str(out)) == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert run(tmp_path / "missing", "--out", str(out)) == 2
    assert "cannot be read" in capsys.readouterr().err
    assert out.read_bytes() == b"precious"
    assert {path.name for path in tmp_path.iterdir()} == {"six.png", "generator.safetensors"}


def test_a_generator_file_carries_its_config_and_provenance(generator_file: Path) -> None:
    loaded = read_generator(generator_file.read_bytes(), "a file")
    assert loaded.config == ModelConfig(**FIELDS)
    assert loaded.provenance == {"run": "test"}
    assert not loaded.generator.training


def test_a_config_that_asks_for_other_weights_than_the_file_holds_is_refused(generator_file: Path) -> None:
    content = generator_file.read_bytes()
    huge = content.replace(b'\\"z_dim\\": 6', b'\\"z_dim\\": 9')
    assert huge != content
    with pytest.raises(GeneratorFileError, match="do not fit together"):
        read_generator(huge, "a file")


def test_digits_are_parsed_in_the_order_given() -> None:
    assert parse_classes("0-3", 10) == [0, 1, 2, 3]
    assert parse_classes("7, 1-2,7", 10) == [7, 1, 2, 7]


def test_the_same_generator_gives_the_same_file() -> None:
    config = ModelConfig(architecture="mlp", z_dim=8, g_widths=(16, 32), d_widths=(32, 16), num_classes=2)
    generator, names = build_generator(config), ("\u043e\u0431\u0443\u0432\u044c", 'a "b"')
    files = {generator_bytes(generator, config, {"run": "test", "step": 3}, names) for _ in range(20)}
    assert len(files) == 1
    loaded = read_generator(files.pop(), "file")
    assert (loaded.provenance, loaded.class_names) == ({"run": "test", "step": 3}, names)
    weights = loaded.generator.state_dict()
    assert all(torch.equal(weights[name], value) for name, value in generator.state_dict().items())


NAMES = ("slant", "thickness", "width")


@pytest.fixture(scope="module")
def table() -> AttributeTable:
    dataset = load_dataset().head(3000)
    return AttributeTable.fit(NAMES, measure(dataset.images[:, 0], NAMES), dataset.labels, 10)


@pytest.fixture
def styled(tmp_path: Path, table: AttributeTable) -> Path:
    """A generator file with attributes, whose weights for them are random."""
    config = ModelConfig(**FIELDS, attributes=NAMES)
    torch.manual_seed(0)
    generator = build_generator(config)
    for name in ("norm1", "norm2", "norm3", "norm4"):
        torch.nn.init.normal_(generator.get_parameter(f"{name}.gain"), 1, 0.5)
    path = tmp_path / "styled.safetensors"
    path.write_bytes(generator_bytes(generator, config, {"run": "test"}, table=table))
    return path


def images_of(path: Path, *arguments: str) -> dict[str, np.ndarray]:
    out = path.with_name("x.npz")
    assert run(path, *arguments, "--out", str(out)) == 0
    with np.load(out) as file:
        return dict(file)


def test_a_generator_file_carries_the_table_of_its_attributes(styled: Path, table: AttributeTable) -> None:
    loaded = load_generator(styled)
    assert loaded.table
    assert loaded.table.to_json() == table.to_json()
    c = loaded.class_rows([3, 7], [5, 6])
    streams = [np.random.RandomState(seed) for seed in (5, 6)]
    draws = np.array([(stream.standard_normal(6), stream.random_sample())[1] for stream in streams])  # after z
    wanted = table.draw(draws, np.array([3, 7]))
    assert c[:, :10].tolist() == one_hot([3, 7], 10).tolist()
    assert c[:, 10:].double().numpy().tolist() == wanted.tolist()
    content = styled.read_bytes()
    for old, new in (
        (b'\\"slant\\",\\"thickness\\"', b'\\"thickness\\",\\"slant\\"'),
        (b'"attributes":', b'"attribute_":'),
    ):
        assert old in content
        with pytest.raises(GeneratorFileError, match="do not fit together"):
            read_generator(content.replace(old, new, 1), "a file")


def test_attributes_that_are_asked_for_change_the_pictures_and_others_come_from_the_seed(styled: Path) -> None:
    free = images_of(styled, "--digit", "6", "--count", "4", "--seed", "3")
    asked = images_of(styled, "--digit", "6", "--count", "4", "--seed", "3", "--slant", "20")
    assert (free["images"] != asked["images"]).any((1, 2)).all()
    assert len(np.unique(asked["images"], axis=0)) == 4
    again = images_of(styled, "--digit", "6", "--count", "1", "--seed", "5", "--slant", "20")
    assert (again["images"][0] == asked["images"][2]).all()
    loaded = load_generator(styled)
    view = GenerateView(digits=(6,), count=4, seed=3, slant=20.0)
    assert (frames(loaded, view) == asked["images"]).all()
    hero = ExploreView(digits=(6,), digit=6, count=1, corners=(3, 4, 5, 6), x=1.0, slant=20.0)
    assert (frames(loaded, hero)[0] == asked["images"][1]).all()
    way = InterpolateView(from_digit=6, from_seed=3, to_digit=6, to_seed=5, frames=3, slant=20.0)
    assert (frames(loaded, way)[[0, 2]] == asked["images"][[0, 2]]).all()


def test_a_prompt_asks_for_attributes_in_units_of_each_class(styled: Path, table: AttributeTable) -> None:
    def thick(label: int) -> str:
        value = float(table.to_values(np.full((1, 3), 1.5), np.array([label]))[0, 1])
        return f"{value:.2f}"

    prompt = ["--prompt", "a thick seven, slanted 20 degrees, seed 3", "--count", "2"]
    said = images_of(styled, *prompt)
    options = ["--digit", "7", "--count", "2", "--seed", "3", "--slant", "20", "--thickness", thick(7)]
    assert (said["images"] == images_of(styled, *options)["images"]).all()
    all_classes = images_of(styled, "--prompt", "thick digits, seed 3")
    assert thick(0) != thick(1)
    for label in (0, 1, 9):
        own = images_of(styled, "--digit", str(label), "--count", "1", "--seed", "3", "--thickness", thick(label))
        assert (all_classes["images"][label] == own["images"][0]).all()
    wide = images_of(styled, "--prompt", "thick 0, seed 3", "--width", "18")
    both = images_of(styled, "--digit", "0", "--count", "1", "--seed", "3", "--thickness", thick(0), "--width", "18")
    assert (wide["images"] == both["images"]).all()


def test_a_file_of_attributes_gives_one_picture_a_row_and_is_repeated(styled: Path, tmp_path: Path) -> None:
    rows = {
        "labels": np.array([6, 6, 1, 0], np.uint8),
        "slant": np.array([20, np.nan, -70.5, 3]),
        "thickness": np.array([np.nan, np.nan, 2.5, 3], np.float32),
    }
    np.savez(tmp_path / "asked.npz", **rows)
    found = images_of(styled, "--attributes", str(tmp_path / "asked.npz"), "--seed", "3")
    assert found["images"].shape == (4, 28, 28)
    assert found.keys() == {"images", *rows}
    for name, values in rows.items():
        np.testing.assert_array_equal(found[name], values)
    for row, arguments in enumerate((["--digit", "6", "--slant", "20"], ["--digit", "6"])):
        alone = images_of(styled, *arguments, "--count", "1", "--seed", str(3 + row))
        assert (alone["images"][0] == found["images"][row]).all()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"slant": [1.0]}, "has no array 'labels'"),
        ({"labels": [1, 2], "slant": [1.0]}, "slant must be 2 finite numbers, or NaN"),
        ({"labels": [1, 2], "slant": [1.0, np.inf]}, "slant must be 2 finite numbers, or NaN"),
        ({"labels": [1, 10]}, "labels must be 0 to 9: got 10"),
        ({"labels": [1.0]}, "labels must be 1 to 100000 whole numbers"),
        ({"labels": [1], "color": [1.0]}, "has 'color'; this generator takes labels, slant, thickness, width"),
    ],
)
def test_a_bad_file_of_attributes_gets_one_line(
    styled: Path,
    tmp_path: Path,
    rows: dict[str, list[float]],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    np.savez(tmp_path / "asked.npz", **{name: np.array(values) for name, values in rows.items()})
    assert run(styled, "--attributes", str(tmp_path / "asked.npz"), "--out", str(tmp_path / "x.npz")) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_attributes_out_of_reach_or_unknown_get_one_line(
    styled: Path, generator_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--out", str(tmp_path / "x.npz")]
    (tmp_path / "asked.npz").write_bytes(b"PK no file")
    for path, arguments, message in (
        (styled, ["--digit", "6", "--slant", "80"], "--slant must be between -"),
        (styled, ["--digit", "6", "--slant", "nan"], "--slant must be between -"),
        (styled, ["--attributes", str(tmp_path / "asked.npz")], "cannot be read as .npz"),
        (styled, ["--attributes", str(tmp_path / "none.npz")], "cannot be read as .npz"),
        (
            styled,
            ["--attributes", str(tmp_path / "asked.npz"), "--width", "14"],
            "--attributes says what to draw",
        ),
        (
            styled,
            ["--attributes", str(tmp_path / "asked.npz"), "--prompt", "a seven"],
            "--attributes says what to draw",
        ),
        (styled, ["--prompt", "a seven with a slant of 80"], "slant must be between -"),
        (
            styled,
            ["--prompt", "a thick seven", "--thickness", "3"],
            "--thickness and --prompt both set the thickness",
        ),
        (generator_file, ["--slant", "20"], "--slant: this generator knows no attributes; omit the option"),
    ):
        assert run(path, *arguments, *out) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1


WRITERS = (2154, 12, 300)


@pytest.fixture
def writers_file(tmp_path: Path) -> Path:
    """A generator file that knows three writers, whose weights for them are random."""
    config = ModelConfig(**FIELDS, writers=3)
    torch.manual_seed(0)
    generator = build_generator(config)
    for name in ("norm1", "norm2", "norm3", "norm4"):
        torch.nn.init.normal_(generator.get_parameter(f"{name}.gain"), 1, 0.5)
    path = tmp_path / "writers.safetensors"
    path.write_bytes(generator_bytes(generator, config, {"run": "test"}, writers=WRITERS))
    return path


def test_a_generator_file_carries_the_numbers_of_its_writers(writers_file: Path) -> None:
    loaded = load_generator(writers_file)
    assert loaded.writers == WRITERS
    c = loaded.class_rows([3, 7, 7], [5, 6, 7], asked=np.array([[300.0], [np.nan], [2154.0]]))
    assert c[:, :10].tolist() == one_hot([3, 7, 7], 10).tolist()
    assert c[:, 10:].tolist() == [[0, 0, 1], [0, 0, 0], [1, 0, 0]]
    assert not loaded.class_rows([3], [5])[:, 10:].any()
    for number in (301, 300.5):
        with pytest.raises(ValueError, match=f"this generator knows 3 writers, but not writer {number:g}"):
            loaded.class_rows([3], [5], asked=np.array([[number]]))
    content = writers_file.read_bytes()
    kept = b'"writers":"[2154, 12, 300]"'
    for damaged in (
        b'"writers":"[2154, 12,  12]"',
        b'"writers":"[2154,   12300]"',
        b'"writers":"[2154, 12, 3.5]"',
        b'"writers":"[2154,12, true]"',
        b'"writers":"[1000001, 2, 1]"',
        b'"writers":"{2154, 12, 300]"',
        b'"writer_":"[2154, 12, 300]"',
    ):
        assert kept in content
        with pytest.raises(GeneratorFileError, match="do not fit together"):
            read_generator(content.replace(kept, damaged, 1), "a file")


def test_a_writer_changes_the_pictures_of_a_view_and_of_words(writers_file: Path) -> None:
    anyone = images_of(writers_file, "--digit", "6", "--count", "4", "--seed", "3")["images"]
    written = images_of(writers_file, "--digit", "6", "--count", "4", "--seed", "3", "--writer", "300")["images"]
    others = images_of(writers_file, "--digit", "6", "--count", "4", "--seed", "3", "--writer", "12")["images"]
    assert (anyone != written).any((1, 2)).all()
    assert (others != written).any((1, 2)).all()
    words = ["--prompt", "a six in the hand of writer 300, seed 3", "--count", "4"]
    assert (images_of(writers_file, *words)["images"] == written).all()
    loaded = load_generator(writers_file)
    assert (frames(loaded, GenerateView(digits=(6,), count=4, seed=3, writer=300)) == written).all()
    hero = ExploreView(digits=(6,), digit=6, count=1, corners=(3, 4, 5, 6), x=1.0, writer=300)
    assert (frames(loaded, hero)[0] == written[1]).all()
    way = InterpolateView(from_digit=6, from_seed=3, to_digit=6, to_seed=5, frames=3, writer=300)
    assert (frames(loaded, way)[[0, 2]] == written[[0, 2]]).all()


def test_a_file_of_writers_gives_one_picture_a_row(writers_file: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "asked.npz", labels=np.array([6, 6, 1]), writer=np.array([300, np.nan, 12]))
    found = images_of(writers_file, "--attributes", str(tmp_path / "asked.npz"), "--seed", "3")
    for row, arguments in enumerate((["6", "--writer", "300"], ["6"], ["1", "--writer", "12"])):
        alone = images_of(writers_file, "--digit", *arguments, "--count", "1", "--seed", str(3 + row))
        assert (alone["images"][0] == found["images"][row]).all()


def test_a_writer_whom_a_generator_does_not_know_gets_one_line(
    writers_file: Path, styled: Path, generator_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = str(tmp_path / "asked.npz")
    np.savez(rows, labels=np.array([6, 6]), writer=np.array([300, 5]))
    known = "--writer: this generator knows 3 writers, with numbers from 12 to 2154, but not 5"
    for path, arguments, message in (
        (writers_file, ["--writer", "5"], known),
        (writers_file, ["--prompt", "a seven by writer 5"], "--prompt: 'by writer 5': this generator does not know"),
        (writers_file, ["--prompt", "a seven by writer 12", "--writer", "12"], "both set the writer"),
        (writers_file, ["--attributes", rows], "this generator knows 3 writers, but not writer 5"),
        (writers_file, ["--attributes", rows, "--writer", "12"], "--attributes says what to draw"),
        (writers_file, ["--slant", "20"], "--slant: this generator knows no attributes; omit the option"),
        (styled, ["--writer", "12"], "--writer: this generator knows no writers; omit the option"),
        (styled, ["--attributes", rows], "has 'writer'; this generator takes labels, slant, thickness, width"),
        (generator_file, ["--writer", "12"], "--writer: this generator knows no writers; omit the option"),
    ):
        assert run(path, *arguments, "--out", str(tmp_path / "x.npz")) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1, error


@pytest.fixture
def store(tmp_path: Path, generator_file: Path) -> Path:
    """Return a store with the generator of step 7 of a run `runs/mine`."""
    config = ModelConfig(**FIELDS)
    content = generator_bytes(load_generator(generator_file).generator.float(), config, {"run": "mine", "step": 7})
    path = tmp_path / "store" / "mine" / "step_00000007" / "generator.safetensors"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    return tmp_path / "store"


def g_of(store: Path) -> str:
    [path] = store.rglob("generator.safetensors")
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


WAY = "interpolate?run=runs/mine&step=7&from_digit=3&from_seed=1&to_digit=8&to_seed=2&path=slerp&frames=5"


def test_a_link_is_drawn_checked_and_read_back_from_each_kind_of_file(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = ["--runs", str(store)]
    assert main(["--link", WAY, *runs, "--out", str(tmp_path / "a.png")]) == 0
    first = capsys.readouterr().out
    assert re.fullmatch(r"px=[0-9a-f]{16}\n", first)
    link = read_note((tmp_path / "a.png").read_bytes())
    assert (f"&g={g_of(store)}&" in link, link.endswith(first.strip())) == (True, True)
    sources = [link, f"https://example.org/{link}", *[str(tmp_path / f"a.{kind}") for kind in ("png", "webp", "gif")]]
    for kind in ("webp", "gif"):
        assert main(["--link", link, *runs, "--out", str(tmp_path / f"a.{kind}")]) == 0
    for source in sources:
        assert main(["--link", source, *runs, "--out", str(tmp_path / "b.png")]) == 0
    assert set(capsys.readouterr().out.splitlines()) == {first.strip()}
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_other_pixels_than_the_links_are_status_1(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    link = f"s?v=1&kind=generate&run=runs/mine&step=7&digits=3&count=2&seed=1&truncation=1&px={'0' * 16}"
    assert main(["--link", link, "--runs", str(store), "--out", str(tmp_path / "x.png")]) == 1
    output = capsys.readouterr()
    assert output.out.startswith("px=")
    assert "not the link's pixels" in output.err


def test_a_generator_is_found_by_its_hash_wherever_it_is(store: Path, tmp_path: Path) -> None:
    def draw(link: str, *options: str) -> int:
        return main(["--link", link, *options, "--out", str(tmp_path / "x.png")])

    g, runs = g_of(store), ("--runs", str(store))
    [file] = store.rglob("generator.safetensors")
    assert draw(f"generate?run=runs/other&step=9&g={g}&digits=3", *runs) == 0
    assert draw(f"generate?g={g}", "--runs", store.as_uri()) == 0
    assert draw(f"generate?g={g}", "--generator", str(file)) == 0
    assert draw("generate?digits=3", "--generator", str(file)) == 0
    archived = store / "mine" / "generators" / f"{hashlib.sha256(file.read_bytes()).hexdigest()}.safetensors"
    archived.parent.mkdir()
    file.rename(archived)
    assert draw(f"generate?g={g}", *runs) == 0


@pytest.mark.parametrize(
    ("link", "message"),
    [
        ("generate?g=000000000000", "the generator 000000000000 is not in"),
        ("generate?run=runs/mine&step=8", "the generator of runs/mine, step 8 is not in"),
        ("generate?run=runs/none&step=7", "the generator of runs/none, step 7 is not in"),
        ("generate?seed=1", "the link names neither a generator"),
        ("generate?g=zzz", "g: must be the first 12 hex digits"),
        ("generate?run=runs/mine&step=7&digits=77", "digits: must be between 0 and 9"),
        ("missing.png", "cannot be read"),
        ("nothing", "must be the link of a picture"),
    ],
)
def test_a_link_that_cannot_be_drawn_gets_one_line(
    store: Path, tmp_path: Path, link: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--link", link, "--runs", str(store), "--out", str(tmp_path / "x.png")]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "x.png").exists()


def test_a_file_that_is_not_the_links_generator_is_refused(
    store: Path, generator_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    link = f"generate?g={g_of(store)}"
    assert main(["--link", link, "--generator", str(generator_file), "--out", str(tmp_path / "x.png")]) == 2
    assert "is not the generator" in capsys.readouterr().err
    still = ["--link", "generate?digits=3", "--generator", str(generator_file), "--out"]
    assert main([*still, str(tmp_path / "x.gif")]) == 2
    assert main([*still, str(tmp_path / "x.npz")]) == 2
