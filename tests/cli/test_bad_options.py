"""Outputs, devices, options and descriptions that make no sense."""

import shutil
from pathlib import Path

import pytest

from tests.cli.conftest import EVERY, fmn
from tests.steps.world import write_yaml


def test_outputs_that_exist_are_left_alone(world, refuse, tmp_path, commands, nothing_runs):
    for number, make in enumerate(
        (
            lambda path: path.write_text("precious"),
            Path.mkdir,
            lambda path: path.symlink_to("nowhere"),
        )
    ):
        shutil.rmtree(tmp_path, ignore_errors=True)
        tmp_path.mkdir(exist_ok=True)
        make(tmp_path / "out")
        for command in ("fisher", "merge", "run"):
            refuse(
                "out exists already; remove it or choose another output",
                *commands(world.model("sst2"))[command],
            )
        assert (tmp_path / "out").is_symlink() == (number == 2)


def test_outputs_that_cannot_be_made(world, refuse, tmp_path, commands, nothing_runs):
    (tmp_path / "file").write_text("")
    for command in ("fisher", "merge", "run"):
        arguments = commands(world.model("sst2"))[command][:-1]
        refuse(
            "cannot write .*file/out: .*file is not a directory",
            *arguments,
            tmp_path / "file" / "out",
        )


def test_draws_with_replacement_need_a_seed(world, refuse, commands, nothing_runs):
    arguments = commands(world.model("sst2"))["fisher"]
    refuse(
        "--replacement draws examples by a seed, --no-shuffle takes the first",
        *arguments,
        "--replacement",
        "--no-shuffle",
    )


@pytest.mark.parametrize("device", ["tpu", "cuda:99", "meta"])
def test_devices_that_are_not_there(device, world, commands, refuse, tmp_path, nothing_runs):
    for command in EVERY:
        refuse(
            f"device '{device}' cannot be used here; choose cpu",
            *commands(world.model("sst2"))[command],
            "--device",
            device,
        )
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--device-map", "gpu"), "--device-map 'gpu': expected auto, or sizes such as"),
        (("--device-map", "{device: much}"), "--device-map .*much.*: device_map"),
        (("--device-map", "{disk: 20GiB}"), "--device-map .*: device_map"),
        (
            ("--device-map", "auto", "--kind", "diagonal"),
            "checkpointing and device maps are for mask Fishers; leave them out",
        ),
        (
            ("--device-map", "2026-13-45"),
            "--device-map '2026-13-45': expected auto, or sizes such as",
        ),
        (
            ("--checkpointing", "--kind", "gram"),
            "--checkpointing means nothing to --kind gram; leave it out",
        ),
        (
            ("--labels", "sampled", "--kind", "gram"),
            "--labels means nothing to --kind gram; leave it out",
        ),
        (
            ("--placement", "before-activation", "--kind", "diagonal"),
            "--placement means nothing to --kind diagonal; leave it out",
        ),
        (
            ("--nodes", "layers", "--kind", "gram"),
            "--nodes means nothing to --kind gram; leave it out",
        ),
        (
            ("--checkpointing", "--kind", "diagonal"),
            "--checkpointing means nothing to --kind diagonal; leave it out",
        ),
        (
            ("--kind", "diagnal"),
            "unknown statistic 'diagnal'; did you mean 'diagonal-fisher'",
        ),
    ],
)
def test_memory_options_that_cannot_be(options, message, world, commands, refuse, nothing_runs):
    refuse(message, *commands(world.model("sst2"))["fisher"], *options)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("negative", "expected a map such as"),
        ("{negative: [1]}", "expected a map such as"),
        ("{a: ", "expected a map such as"),
        ("2020-13-45", "expected a map such as"),
        ("{negativ: positive}", "unknown model label 'negativ'; did you mean 'negative'"),
        ("{negative: postive}", "unknown sst2 label 'postive'; did you mean 'positive'"),
        ("{negative: positive}", "the model's labels .* do not match those of task sst2"),
        ("{negative: positive, 0: negative}", "names output 0 .* twice"),
    ],
)
def test_label_maps_that_say_nothing(labels, message, world, commands, refuse, nothing_runs):
    for command in ("fisher", "evaluate"):
        refuse(message, *commands(world.model("sst2"))[command], "--labels-map", labels)


def test_a_label_map_is_about_one_task(world, refuse, tmp_path):
    arguments = (
        "evaluate",
        world.model("sst2"),
        "--task",
        "sst2",
        "--task",
        "rte",
        "--labels-map",
        "{a: b}",
    )
    refuse("--labels-map is about one task; give one --task with it", *arguments)


def test_evaluate_wants_a_task(world, refuse):
    refuse(
        "is one model: say which task it is measured on",
        "evaluate",
        world.model("sst2"),
        "--data",
        world.data,
    )


def with_key(content, *path, value=1):
    """Add an unknown key somewhere within a description."""
    *inner, last = path
    place = content
    for step in inner:
        place = place.setdefault(step, {}) if isinstance(step, str) else place[step]
    place[last] = value
    return content


@pytest.mark.parametrize(
    ("command", "path", "message"),
    [
        ("merge", ("metod",), "unknown key 'metod'; did you mean 'method'"),
        ("merge", ("fisher", "sample"), "unknown key in fisher 'sample'; did you mean 'samples'"),
        (
            "merge",
            ("parameters", "normalise"),
            "unknown parameter of mask-fisher 'normalise'; did you mean 'normalize'",
        ),
        (
            "merge",
            ("models", 1, "wieght"),
            r"unknown key in models\.1 'wieght'; did you mean 'weight'",
        ),
        ("run", ("dat",), "unknown key 'dat'; did you mean 'data'"),
        ("run", ("merge", "method"), "unknown key in merge 'method'; did you mean 'methods'"),
        (
            "run",
            ("merge", "parameters", "asociation"),
            r"unknown parameter of average, mask-fisher 'asociation'; did you mean 'association'",
        ),
        ("run", ("evaluate", "limits"), "unknown key in evaluate 'limits'; did you mean 'limit'"),
        (
            "run",
            ("models", 0, "lables"),
            r"unknown key in models\.0 'lables'; did you mean 'labels'",
        ),
        ("run", ("trust_remote_code",), "unknown key 'trust_remote_code'"),
    ],
)
def test_unknown_keys(command, path, message, refuse, tmp_path, nothing_runs):
    entries = [{"model": "a", "task": "sst2"}, {"model": "b", "task": "rte"}]
    content = {"models": entries} | ({"method": "mask-fisher"} if command == "merge" else {})
    file = write_yaml(tmp_path / "said.yaml", with_key(content, *path))
    refuse(message, command, file, "--out", tmp_path / "out")


@pytest.mark.parametrize("command", ["merge", "run"])
def test_files_that_are_no_description(command, refuse, tmp_path, nothing_runs):
    refuse(
        r"cannot read .*none\.yaml: No such file",
        command,
        tmp_path / "none.yaml",
        "--out",
        tmp_path / "out",
    )
    refuse("cannot read .*: Is a directory", command, tmp_path, "--out", tmp_path / "out")
    for content, message in (
        (b"models: [", "is not YAML"),
        (b"\xff\xfe", "not UTF-8"),
        (b"- a", "must hold a mapping"),
        (b"", "must hold a mapping"),
    ):
        (tmp_path / "said.yaml").write_bytes(content)
        refuse(message, command, tmp_path / "said.yaml", "--out", tmp_path / "out")


def test_two_models_for_one_task_and_too_few_models(world, refuse, tmp_path, nothing_runs):
    entry = {"model": str(world.model("sst2")), "task": "sst2"}
    refuse(
        "two models are called sst2; give one of them a 'name' of its own",
        "run",
        world.params(tmp_path / "p.yaml", models=[entry, entry]),
    )
    refuse("models: .*at least 2", "run", world.params(tmp_path / "p.yaml", models=[entry]))
    refuse(
        "merges of 4 models, but there are 3",
        "run",
        world.params(tmp_path / "p.yaml", merge={"sizes": [2, 4]}),
    )


@pytest.mark.parametrize(
    "option",
    [
        ("--samples", 0),
        ("--seed", -1),
        ("--batch-size", 0),
        ("--max-length", 3),
    ],
)
def test_options_that_make_no_sense(option, world, commands):
    result = fmn(*commands(world.model("sst2"))["fisher"], *option)
    assert result.exit_code == 2
    assert f"Error: Invalid value for '{option[0]}'" in result.stderr
