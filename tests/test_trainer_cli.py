"""`python -m trainer` before a training starts: its output, and its one-line messages for invalid input."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.sample_run import manifest, run_record
from trainer.__main__ import main
from trainer.config import TrainConfig, Upkeep
from trainer.data import load_dataset
from trainer.lease import take_lease
from trainer.recipes import RECIPES
from trainer.run_store import GENERATOR_FILE, Run, open_store
from trainer.supervise import Training
from trainer.train_command import parse


def existing_run(folder: Path, config: TrainConfig) -> Run:
    run = open_store(folder).run("forge")
    run.create(run_record(config=config.to_dict(), data=load_dataset().sha256))
    return run


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["frge"], "unknown recipe 'frge'; choose from: forge"),
        (["forge", "--workers", "0"], "--workers must be at least 1, and MIN at most MAX: got 0"),
        (["forge", "--workers", "3:2"], "--workers must be at least 1, and MIN at most MAX: got 3:2"),
        (["forge", "--workers", "two"], "--workers must be a number, or MIN:MAX as in 1:8: got 'two'"),
        (
            ["forge", "--checkpoint-every", "often"],
            "checkpoint_every must be steps, or minutes as in 5min",
        ),
        (["forge", "--batch-size", "4", "--workers", "2"], "--batch-size 4 feeds at most 1 workers: got 2"),
        (["forge", "--batch-size", "7"], "batch_size must be a multiple of the 4 images"),
        (["forge", "--epochs", "0"], "epochs must be at least 1: got 0"),
        (["forge", "--epochs", "many"], "--epochs: invalid literal"),
        (["forge", "--dtype", "float16"], "--dtype"),
        (["forge", "--bogus", "1"], "Unrecognized options: --bogus"),
        (["forge", "--seed", "-1"], "seed must be in [0, 2^32): got -1"),
        (["forge", "--limit-images", "60001"], "limit_images must be between 0 and the dataset's 60000: got 60001"),
        (["forge", "--limit-images", "10"], "raise --limit-images"),
        (["forge", "--dataset", "nowhere"], "--dataset must be a folder of IDX files"),
        (["forge", "--model.num-classes", "5"], "--model.num-classes is 5"),
        (["forge", "--name", "../etc"], "cannot be the name of a run"),
        (["forge", "--runs", "gopher://x"], "gopher://x: cannot be opened"),
        (["mlp-cgan", "--gamma", "1"], "d_update 'separate' needs a loss without pairs or penalties"),
        (["gan", "--batch-size", "5"], "batch_size must be even for d_batch 'halves', in whole groups: got 5"),
        (["gan", "--batch-size", "4", "--workers", "3"], "--batch-size 4 feeds at most 2 workers: got 3"),
        (["dcgan", "--batch-size", "4", "--workers", "3"], "--batch-size 4 feeds at most 2 workers: got 3"),
        (["gan", "--g-labels", "real"], "g_labels must be 'uniform' for d_batch 'halves'"),
        (["forge", "--sampling", "random"], "sampling must be 'epoch' for networks that compare images"),
        (["forge", "--g-labels", "uniform"], "g_labels and d_fakes_labels must be 'real'"),
        (["mlp-cgan", "--optimizer", "rmsprop"], "beta1 must be 0 for rmsprop: got 0.5"),
        (["forge", "--d-class-weight", "0"], "d_class_weight and g_class_weight go together: got True, 0.0 and 0.5"),
        (["forge", "--model.no-classifier"], "d_class_weight and g_class_weight go together: got False, 1.0 and 0.5"),
        (["dcgan", "--g-class-weight", "1"], "d_class_weight and g_class_weight go together: got False, 0.0 and 1.0"),
        (["forge", "--d-class-weight", "-1"], "d_class_weight must not be negative: got -1"),
        (["forge", "--d-update", "concatenated"], "d_class_weight needs d_update 'joint': got 'concatenated'"),
        (["forge", "--model.d-kernel", "5"], "model.d_kernel must be 3 or 4: got 5"),
        (["dcgan", "--model.d-kernel", "3"], "model.d_kernel must be 4 for dcgan: got 3"),
        (["mlp-cgan", "--model.classifier"], "model.classifier must be False for mlp: got True"),
        (["forge", "--augment", "colour", "colour"], "augment must be different ones of colour, translation, cutout"),
        (["forge", "--metrics-every", "-1"], "metrics_every must not be negative: got -1"),
        (["forge", "--cpu-minutes", "0"], "--cpu-minutes must be greater than 0: got 0"),
        (["forge", "--cpu-minutes", "nan"], "--cpu-minutes must be greater than 0: got nan"),
    ],
)
def test_bad_input_gets_one_line(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if "--runs" not in arguments:
        arguments = [*arguments, "--runs", str(tmp_path / "runs")]
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_a_file_is_no_place_for_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_bytes(b"precious")
    assert main(["forge", "--runs", str(tmp_path / "file")]) == 2
    assert "is not a folder" in capsys.readouterr().err
    assert (tmp_path / "file").read_bytes() == b"precious"


def test_a_dry_run_prints_the_config_that_would_train(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["forge", "--epochs", "3", "--batch-size", "32", "--model.z-dim", "16", "--dry-run"]) == 0
    settings = json.loads(capsys.readouterr().out)
    config = TrainConfig.from_dict(settings)
    assert settings["keep_checkpoints"] == 3
    assert (config.epochs, config.batch_size, config.model.z_dim) == (3, 32, 16)
    assert config.g_lr == RECIPES["forge"].config.g_lr


def test_help_lists_every_recipe_and_flag(capsys: pytest.CaptureFixture[str]) -> None:
    def help_of(*arguments: str) -> str:
        with pytest.raises(SystemExit) as end:
            main([*arguments, "--help"])
        assert end.value.code == 0
        return capsys.readouterr().out

    overview = help_of()
    assert all(recipe in overview for recipe in RECIPES)
    flags = (
        "--epochs --workers --batch-size --limit-images --dtype --seed --runs --name --extend --cpu-minutes --dry-run"
    )
    text = help_of("forge")
    assert all(flag in text for flag in flags.split())


def test_recipes_are_listed_with_their_sizes_and_schedules(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes"]) == 0
    titles, *lines = capsys.readouterr().out.splitlines()
    assert titles.split()[0] == "recipe"
    assert [line.split()[0] for line in lines] == list(RECIPES)
    rows = dict(zip(RECIPES, lines, strict=True))
    for cell in ("1,363,521 / 1,090,001", "101.7 / 19.2", "BCE, concatenated", "40,000 steps of 64 in 80 epochs"):
        assert cell in rows["conv-cgan"]
    assert "RMSprop 0.0001 / 0.0002, decay 3e-08 / 6e-08" in rows["conv-cgan"]
    assert "1,516,636 / 943,537" in rows["mlp-cgan"]
    assert all("  none  " in rows[recipe] for recipe in ("dcgan", "gan", "dropout-dcgan"))
    with pytest.raises(SystemExit):
        main(["recipes", "gan"])
    assert "trainer recipes: unrecognized arguments: gan" in capsys.readouterr().err


def test_recipes_are_listed_by_name_and_with_their_notes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes", "--names"]) == 0
    assert capsys.readouterr().out.split("\n") == [*RECIPES, ""]
    assert main(["recipes", "--long"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    for name, recipe in RECIPES.items():
        assert f"{name}: {recipe.summary}" in text
        assert " ".join(recipe.notes.split()) in text
    assert "relativistic + R1 or R2 in turn" in text
    assert main(["recipes", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert list(rows) == list(RECIPES)
    assert rows["forge"] == {"summary": RECIPES["forge"].summary, "max_workers": 16}


def test_every_recipe_names_itself_and_is_what_its_command_trains() -> None:
    for name, recipe in RECIPES.items():
        assert recipe.config.recipe == name
        command = parse([name])
        assert (command.config, command.upkeep) == (recipe.config, recipe.upkeep)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seed", "1"], "seed: 0, 1"),
        (["--batch-size", "32"], "batch_size: 64, 32"),
        (["--model.z-dim", "32"], "model.z_dim: 64, 32"),
        (["--epochs", "99"], "--extend lengthens it"),
        (["--epochs", "1", "--extend"], "epochs: 10, 1"),
        (["--seed", "1", "--epochs", "99", "--extend"], "seed: 0, 1"),
    ],
)
def test_a_run_is_not_continued_with_another_config(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = existing_run(tmp_path, RECIPES["forge"].config)
    before = run.read_run()
    assert main(["forge", "--runs", str(tmp_path), *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert run.read_run() == before


def test_a_run_is_not_continued_on_other_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = open_store(tmp_path).run("forge")
    run.create(run_record(config=RECIPES["forge"].config.to_dict(), data={"train-images-idx3-ubyte": "other"}))
    assert main(["forge", "--runs", str(tmp_path)]) == 2
    assert "trained on other data" in capsys.readouterr().err


def test_networks_are_not_compiled_without_a_compiler(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert main(["forge", "--compile", "--runs", str(tmp_path)]) == 2
    message = "--compile needs a C++ compiler: no-such-compiler is not installed here (CXX names another)"
    assert capsys.readouterr().err == f"trainer: {message}\n"
    assert not list(tmp_path.iterdir())


def test_a_run_that_has_used_its_cpu_minutes_starts_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def connect(training: Training) -> None:
        raise ValueError("it would start Ray")

    monkeypatch.setattr(Training, "connect", connect)
    run = existing_run(tmp_path, RECIPES["forge"].config)
    run.publish_checkpoint(manifest(40, seconds=70.0, cpu_seconds=120.0), {GENERATOR_FILE: b"weights"})
    command = ["forge", "--runs", str(tmp_path), "--cpu-minutes"]
    for minutes in ("2", "1.5"):
        assert main([*command, minutes]) == 0
        assert f"has used its {minutes} CPU-minutes, at step 40 of 2500" in capsys.readouterr().out
    for arguments in ([*command, "2.1"], command[:-1]):
        assert main(arguments) == 2
        assert capsys.readouterr().err == "trainer: it would start Ray\n"


def test_a_run_that_trains_now_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = existing_run(tmp_path, RECIPES["forge"].config)
    held = take_lease(run, "another launch", print)
    assert main(["forge", "--runs", str(tmp_path)]) == 2
    held.release()
    error = capsys.readouterr().err
    assert error.startswith(f"trainer: run forge is being trained by process {os.getpid()} on ")
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    "fields",
    [
        {"epochs": 0},
        {"gamma": -1.0},
        {"beta1": 1.0},
        {"d_lr": 0.0},
        {"g_fakes": "same", "d_fakes_mode": "eval"},
        {"loss": "relativistic", "d_update": "separate", "gamma": 0.0},
    ],
)
def test_a_config_that_cannot_train_names_the_field(fields: dict[str, Any]) -> None:
    config = RECIPES["forge"].config.to_dict()
    with pytest.raises(ValueError, match=next(reversed(fields)) if "loss" not in fields else "d_update"):
        TrainConfig.from_dict(config | fields)


@pytest.mark.parametrize(
    "fields", [{"keep_checkpoints": 0}, {"checkpoint_every": -1}, {"metrics_every": -1}, {"keep_generators": -1}]
)
def test_an_invalid_upkeep_names_the_field(fields: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(fields))):
        Upkeep(**fields)


def test_a_run_is_continued_with_another_upkeep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def connect(training: Training) -> None:
        raise ValueError("it would start Ray")

    monkeypatch.setattr(Training, "connect", connect)
    existing_run(tmp_path, RECIPES["forge"].config)
    flags = [
        "--keep-checkpoints",
        "5",
        "--metrics-every",
        "0",
        "--checkpoint-every",
        "7",
        "--print-accuracy-every",
        "2",
    ]
    assert main(["forge", "--runs", str(tmp_path), *flags]) == 2
    assert capsys.readouterr().err == "trainer: it would start Ray\n"


def test_a_run_from_before_upkeep_was_apart_is_still_the_same_run() -> None:
    fields = RECIPES["gan"].config.to_dict()
    fields |= {"keep_checkpoints": 3, "checkpoint_every": 0, "metrics_every": 1, "print_accuracy_every": 10}
    assert TrainConfig.from_dict(fields) == RECIPES["gan"].config


def test_a_run_from_before_the_classics_is_still_the_same_run() -> None:
    later = ("sampling", "d_batch", "d_acc_mode", "d_fakes_labels", "optimizer")
    for config in (RECIPES["forge"].config, RECIPES["quick"].config):
        fields = config.to_dict()
        for name in (*later, "g_decay", "d_decay"):
            del fields[name]
        del fields["model"]["dropout"]
        assert TrainConfig.from_dict(fields) == config


def test_a_classic_from_before_classes_were_read_and_epochs_scored_is_still_the_same_run() -> None:
    for recipe in ("mlp-cgan", "dcgan", "gan"):
        fields = RECIPES[recipe].config.to_dict()
        for name in ("d_class_weight", "g_class_weight"):
            del fields[name]
        del fields["model"]["classifier"]
        assert TrainConfig.from_dict(fields) == RECIPES[recipe].config


def test_a_config_with_an_unknown_or_missing_field_is_refused() -> None:
    config = RECIPES["forge"].config.to_dict()
    with pytest.raises(ValueError, match="'bogus'"):
        TrainConfig.from_dict(config | {"bogus": 1})
    del config["model"]
    with pytest.raises(ValueError, match="model"):
        TrainConfig.from_dict(config)
