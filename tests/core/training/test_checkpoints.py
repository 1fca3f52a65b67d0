"""Checkpoints: which are asked for, which are left, which are whole."""

from __future__ import annotations

import zipfile
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from tasks.core.errors import LoadError, UserError
from tasks.core.sections import Train
from tasks.core.training import checkpoints
from tests.conftest import Project
from tests.core.model.test_checkpoint import saved

CHOOSES = "evaluate: {prompts: p}\ncheckpoint: "
TEXT = "base: {path: x}\ntrain: {prompt_template: default, max_iters: 30}\n"


@pytest.mark.parametrize(
    ("wanted", "last", "numbers"),
    [
        ("last", 30, (30,)),
        ("last", None, ()),
        (20, 30, (20,)),
        (20, None, (20,)),
        ((20, "last", 10), 30, (10, 20, 30)),
        ((20, "last", 10), None, (10, 20)),
        ((30, "last"), 30, (30,)),
        ("best", 30, (30,)),
    ],
)
def test_the_numbers_that_are_asked_for(wanted: Any, last: int | None, numbers: Any) -> None:
    assert checkpoints.numbers(wanted, last) == numbers


@pytest.mark.parametrize(
    ("more", "left"),
    [
        ({"max_iters": 25, "save_steps": 10, "save_total_limit": -1}, [10, 20, 25]),
        ({"max_iters": 20, "save_steps": 10, "save_total_limit": -1}, [10, 20]),
        ({"max_iters": 25, "save_steps": 10, "save_total_limit": 2}, [20, 25]),
        ({"max_iters": 25, "save_steps": 10, "save_total_limit": 0}, [10, 20, 25]),
        ({"max_iters": 25, "save_steps": 99, "save_total_limit": 9}, [25]),
        ({"max_epochs": 3}, None),
    ],
)
def test_what_a_training_will_leave_is_known_where_its_length_is(
    more: dict[str, Any], left: list[int] | None
) -> None:
    assert checkpoints.left_by(Train(prompt_template="default", **more)) == left


@pytest.mark.parametrize(
    ("checkpoint", "refused"),
    [("20", ""), ("last", ""), ("25", ""), ("10", "10"), ("24", "24"), ("[20, 5, last]", "5")],
)
def test_a_checkpoint_that_will_not_be_left_is_refused_before_training(
    project: Project, checkpoint: str, refused: str
) -> None:
    train = "prompt_template: default, max_iters: 25, save_steps: 5, save_total_limit: 2"
    said = rf"iter_{refused}\.pth is not among .* \(iter_20.pth, " if refused else ""
    check_left(project, train, checkpoint, said)


def check_left(project: Project, train: str, checkpoint: str, refused: str) -> None:
    """Check that a training is begun, or refused with some words."""
    text = f"base: {{path: x}}\ntrain: {{{train}}}\n{CHOOSES}{checkpoint}\n"
    recipe = project.recipe("m", text)
    assert recipe.train
    with pytest.raises(UserError, match=refused) if refused else nullcontext():
        checkpoints.check_left(recipe, recipe.train)


# 34442 rows are Agent-FLAN's; 24 devices are the document's six nodes, and 4296 its last iteration.
@pytest.mark.parametrize(
    ("launch", "more", "checkpoint", "refused"),
    [
        ("{processes: 4, nodes: 6}", "", "4296", ""),
        ("{processes: 4, nodes: 6}", "", "4500", "about 4308 iterations"),
        ("{processes: 4}", "", "4296", "about 25833 iterations, and saves at every 500 of them"),
        ("{processes: 4}", "", "4500", ""),
        ("{processes: 4}", ", save_total_limit: 2", "4500", "about 25833"),
        ("{processes: 4}", ", save_total_limit: 2", "25833", ""),
        ("{processes: 4}", ", batch_size: 2", "[500, 12918, last]", ""),
        ("{processes: 4}", ", batch_size: 2", "[500, 12919, last]", "iter_12919.* about 12918"),
        ("{processes: 8}", ", sequence_parallel_size: 2", "25833", ""),
        ("{processes: 4}", ", pack_to_max_length: true", "4296", ""),
        ("{processes: 4}", ", template: own.j2", "4296", ""),
    ],
)  # fmt: skip
def test_epochs_and_rows_tell_which_checkpoints_cannot_be_left(
    project: Project, launch: str, more: str, checkpoint: str, refused: str
) -> None:
    project.result("m", "convert", {"state.json": b"{}"}, {"rows": 34442})
    keys = ["prompt_template: default", "max_epochs: 3", "save_steps: 500", f"launch: {launch}"]
    keys += ["save_total_limit: 50"] * ("limit" not in more)
    keys += ["pack_to_max_length: false"] * ("pack" not in more)
    check_left(project, f"{', '.join(keys)}{more}", checkpoint, refused)


def ask(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    """Let the command line hold some words, as doit reads them."""
    given = dict(word.split("=", 1) for word in words if "=" in word and word[0] != "-")
    monkeypatch.setattr("sys.argv", ["doit", *words])
    monkeypatch.setattr("doit.doit_cmd._CMDLINE_VARS", given)


@pytest.mark.parametrize(("given", "taken"), [("20", 20), ("last", "last")])
def test_the_command_line_has_the_last_word(
    project: Project, monkeypatch: pytest.MonkeyPatch, given: str, taken: Any
) -> None:
    trains = project.recipe("m", f"{TEXT}checkpoint: best\nevaluate: {{prompts: p}}\n")
    serves = project.recipe("n", "base: {path: x}\n")
    ask(monkeypatch, "adapter:m", f"checkpoint={given}", "--reporter=console")
    assert checkpoints.override([trains, serves])[0].checkpoint == taken
    assert checkpoints.override([trains, serves])[1] is serves


def test_what_the_file_says_is_still_known(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(monkeypatch, "adapter:m", "checkpoint=20")
    last, numbered = project.recipe("m", TEXT), project.recipe("n", f"{TEXT}checkpoint: 10\n")
    found = checkpoints.override([last, numbered])
    assert [each.checkpoint for each in found] == [20, 20]
    assert [each.names_iterations for each in found] == [False, True]


def test_without_a_word_of_it_recipes_stay_as_they_are(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(monkeypatch, "adapter:m")
    recipe = project.recipe("m", TEXT)
    assert checkpoints.override([recipe]) == [recipe]


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("checkpoint=best", "checkpoint=best: should be `last` or the number of an iteration"),
        ("checkpoint=0", "checkpoint=0: should be"),
        ("checkpoint=-5", "checkpoint=-5: should be"),
        ("checkpoint=1e3", "checkpoint=1e3: should be"),
        ("chekpoint=20", "chekpoint=: unknown variable .* perhaps you meant 'checkpoint'"),
        ("force=1", "force=: unknown variable .* there is only `checkpoint=NUMBER`"),
        ("lr=1", "lr=: unknown variable .* there is only `checkpoint=NUMBER`"),
    ],
)
def test_a_word_that_means_nothing_is_refused(
    project: Project, monkeypatch: pytest.MonkeyPatch, word: str, said: str
) -> None:
    ask(monkeypatch, "adapter:m", word)
    with pytest.raises(LoadError, match=said):
        checkpoints.override([project.recipe("m", TEXT)])


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ("best", "best"),
        ("[10, last]", (10, "last")),
        ("[10, 20, 10]", (10, 20)),
        ("[10]", 10),
        ("[last]", "last"),
    ],
)
def test_a_recipe_may_name_several_or_the_best(project: Project, given: str, taken: Any) -> None:
    recipe = project.recipe("m", TEXT + CHOOSES + given)
    assert recipe.checkpoint == taken
    assert recipe.chooses is (given in ("best", "[10, last]", "[10, 20, 10]"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"{TEXT}{CHOOSES}[]", "checkpoint: a list should hold numbers of iterations, or `last`"),
        (f"{TEXT}{CHOOSES}[best, 10]", "checkpoint: a list should hold numbers"),
        (f"{TEXT}{CHOOSES}[[10]]", "checkpoint: a list should hold numbers"),
        (f"{TEXT}{CHOOSES}[0]", "checkpoint: should be `last`, `best`, the number"),
        (f"{TEXT}{CHOOSES}[true]", "checkpoint: should be `last`, `best`, the number"),
        (f"{TEXT}{CHOOSES}first", "checkpoint: should be `last`, `best`, the number"),
        (f"{TEXT}checkpoint: best", "checkpoint: give `evaluate: {prompts: FILE}`"),
        (f"base: {{path: x}}\n{CHOOSES}best", "checkpoint: there is no `train`"),
        (f"{TEXT}adapter: {{path: a}}\n{CHOOSES}[1, 2]", "checkpoint: there is no `train`"),
    ],
)
def test_what_cannot_be_chosen_from_is_refused(project: Project, text: str, said: str) -> None:
    with pytest.raises(LoadError) as caught:
        project.recipe("m", text)
    assert said in str(caught.value)


def whole(path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("data.pkl", b"")
    return path


def test_the_newest_is_by_number_and_whole(tmp_path: Path) -> None:
    for number in (9, 10, 100):
        whole(tmp_path / f"iter_{number}.pth")
    (tmp_path / "iter_200.pth").write_bytes(b"PK\x03\x04")
    (tmp_path / "iter_7.pth.tmp").write_bytes(b"")
    assert checkpoints.newest(tmp_path) == tmp_path / "iter_100.pth"
    checkpoints.drop_broken(tmp_path)
    assert [checkpoints.number(p) for p in checkpoints.all_in(tmp_path)] == [9, 10, 100]


def part(folder: Path, name: str, content: dict[str, Any]) -> Path:
    folder.mkdir(exist_ok=True)
    return saved(folder / f"{name}_states.pt", content)


def ranks(folder: Path, stage: int, count: int, trained: int) -> None:
    """Write what some of the processes that trained left."""
    state = {"zero_stage": stage, "partition_count": trained}
    for rank in range(count):
        name = f"bf16_zero_pp_rank_{rank}_mp_rank_00"
        part(folder, f"{name}_optim", {"optimizer_state_dict": state})
        if stage == 3:
            part(folder, f"zero_pp_rank_{rank}_mp_rank_00_model", {})
    if stage < 3:
        part(folder, "mp_rank_00_model", {})


@pytest.mark.parametrize("stage", [2, 3])
@pytest.mark.parametrize(("count", "whole"), [(2, True), (1, False)])
def test_a_folder_of_deepspeed_is_whole_with_the_parts_of_every_process(
    tmp_path: Path, stage: int, count: int, whole: bool
) -> None:
    folder = tmp_path / "iter_5.pth"
    ranks(folder, stage, count, trained=2)
    assert checkpoints.is_whole(folder) is whole


@pytest.mark.parametrize("name", ["mp_rank_00_model", "bf16_zero_pp_rank_1_mp_rank_00_optim"])
@pytest.mark.parametrize("how", ["cut", "gone"])
def test_a_folder_of_deepspeed_with_a_bad_part_is_not_whole(
    tmp_path: Path, name: str, how: str
) -> None:
    folder = tmp_path / "iter_5.pth"
    ranks(folder, 2, 2, trained=2)
    path = folder / f"{name}_states.pt"
    path.write_bytes(path.read_bytes()[:-30]) if how == "cut" else path.unlink()
    assert not checkpoints.is_whole(folder)


def test_an_empty_folder_is_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "iter_5.pth").mkdir()
    assert not checkpoints.is_whole(tmp_path / "iter_5.pth")
