"""The command line and the YAML files: what they mean, and what they say when they cannot mean anything."""

import json
import shlex
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from toolkit import cli
from toolkit.cli import dump, help_text, json_schema, run_main
from toolkit.config import SCHEMAS, BaseConfig, RunConfig, validate
from toolkit.config.keys import leaves, sections
from toolkit.errors import ConfigError, DataError

ROOT = Path(__file__).parent.parent
LEAST = {"model": {"pretrained_model_name_or_path": "base"}, "data": {"dataset_name": "rows"}}
Write = Callable[[str], str]
load_config = partial(cli.load_config, schema=RunConfig)

# Every flag of diffusers' train_text_to_image.py, with a value that is not its default.
DIFFUSERS_FLAGS = shlex.split("""
--pretrained_model_name_or_path base --revision r1 --variant fp16 --non_ema_revision r2 --dataset_name rows
--dataset_config_name part --image_column picture --caption_column words --max_train_samples 7
--validation_prompts one two --validation_epochs 3 --output_dir out --cache_dir cache --seed 5 --resolution 256
--center_crop --random_flip --image_interpolation_mode bicubic --train_batch_size 2 --num_train_epochs 4
--max_train_steps 9 --gradient_accumulation_steps 8 --gradient_checkpointing --learning_rate 3e-5 --scale_lr
--lr_scheduler cosine --lr_warmup_steps 11 --snr_gamma 5.0 --dream_training --dream_detail_preservation 2
--use_8bit_adam --allow_tf32 --use_ema --offload_ema --foreach_ema --dataloader_num_workers 2 --adam_beta1 0.8
--adam_beta2 0.99 --adam_weight_decay 0.1 --adam_epsilon 1e-7 --max_grad_norm 2 --push_to_hub --hub_token secret
--prediction_type epsilon --hub_model_id me/it --logging_dir log --mixed_precision bf16 --report_to wandb
--tracker_project_name sketches --local_rank 0 --checkpointing_steps 20 --checkpoints_total_limit 2
--resume_from_checkpoint out/checkpoint-20 --enable_xformers_memory_efficient_attention --noise_offset 0.05
--input_perturbation 0.1
""")


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a configuration and returns its path."""

    def to(text: str) -> str:
        path = tmp_path / "mine.yaml"
        path.write_text(text, encoding="utf-8")
        return str(path)

    return to


@pytest.fixture
def least(write: Write) -> list[str]:
    """The shortest command line that means something."""
    return ["--config", write(yaml.safe_dump(LEAST))]


def refusal(argv: Sequence[str]) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load_config(argv)
    return caught.value


def test_every_flag_of_the_diffusers_script_means_the_same_here() -> None:
    config = load_config(DIFFUSERS_FLAGS)
    values = {name: getattr(getattr(config, section) if section else config, name) for section, name in keys()}
    assert len([word for word in DIFFUSERS_FLAGS if word.startswith("--")]) == 56
    assert values["validation_prompts"] == ("one", "two")
    assert values["learning_rate"] == 3e-5
    assert values["cache_dir"] == Path("cache")
    assert values["hub_token"].get_secret_value() == "secret"
    assert values["foreach_ema"] is True
    unchanged = {
        name
        for section, name, field in leaves(RunConfig)
        if section != "task" and f"--{name}" in DIFFUSERS_FLAGS and values[name] == field.default
    }
    assert unchanged == {"foreach_ema"}


def test_the_57th_flag_takes_the_place_of_dataset_name() -> None:
    assert load_config(["--pretrained_model_name_or_path", "base", "--train_data_dir", "images"]).data == (
        RunConfig.model_validate(LEAST | {"data": {"train_data_dir": "images"}}).data
    )
    assert "exactly one" in refusal([*DIFFUSERS_FLAGS, "--train_data_dir", "images"]).problem


def keys() -> list[tuple[str, str]]:
    return [(section, name) for section, name, _ in leaves(RunConfig) if section != "task"]


def test_flags_replace_what_the_file_gives_and_leave_the_rest(write: Write) -> None:
    path = write(yaml.safe_dump(LEAST | {"optimizer": {"learning_rate": "3e-5", "adam_beta1": 0.8}}))
    config = load_config(["--config", path, "--learning_rate", "1e-6"])
    assert (config.optimizer.learning_rate, config.optimizer.adam_beta1) == (1e-6, 0.8)


@pytest.mark.parametrize("flag", [["--optimizer.learning_rate", "3e-5"], ["--learning_rate=3e-5"]])
def test_a_flag_may_name_its_section_and_may_hold_its_value(least: list[str], flag: list[str]) -> None:
    assert load_config([*least, *flag]).optimizer.learning_rate == 3e-5


@pytest.mark.parametrize(("words", "meant"), [([], True), (["true"], True), (["False"], False)])
def test_a_switch_is_true_alone_or_as_said(least: list[str], words: list[str], meant: bool) -> None:
    config = load_config([*least, "--foreach_ema", *words, "--seed", "4"])
    assert (config.ema.foreach_ema, config.seed) == (meant, 4)


def test_null_is_no_value(least: list[str]) -> None:
    config = load_config([*least, "--max_grad_norm", "null", "--validation_prompts", "null"])
    assert config.optimizer.max_grad_norm is None
    assert config.validation.validation_prompts == ()


def test_a_value_may_begin_with_dashes(least: list[str]) -> None:
    config = load_config([*least, "--local_rank", "-1", "--validation_prompts=--a horse", "a cow"])
    assert config.training.local_rank == -1
    assert config.validation.validation_prompts == ("--a horse", "a cow")


def test_a_flag_given_again_replaces_itself_as_in_other_scripts(least: list[str]) -> None:
    assert load_config([*least, "--seed", "1", "--seed", "2"]).seed == 2


@pytest.mark.parametrize(
    ("flags", "problem", "remedy"),
    [
        (["--learning_rat", "1"], "unknown flag --learning_rat", "`--learning_rate`"),
        (["--training.learning_rate", "1"], "unknown flag --training.learning_rate", "under `optimizer`"),
        (["--qqq"], "unknown flag --qqq", "--help"),
        (["--seed"], "--seed: its value is missing", "--seed VALUE"),
        (["--validation_prompts", "--seed", "1"], "--validation_prompts: its value is missing", "VALUE"),
        (["--caption_template", "a", "{caption}"], "--caption_template: unexpected `{caption}`", "quotes"),
        (["--seed", "x"], "--seed: `seed` = 'x'", "`seed`"),
        (["--use_ema", "yes"], "--use_ema: `yes`", "true or false"),
        (["--target_modules", "to_k"], "--target_modules: `task.target_modules` needs kind lora", "--kind lora"),
        (["--kind", "full", "--rank", "4"], "--rank: `task.rank` needs kind lora", "--kind lora"),
        (["--kind", "dora"], "--kind: `task.kind` = 'dora': Input should be one of 'full', 'lora'", "kind"),
        (["--config", "sketch"], "--config is given twice", "one"),
        (["--eval_steps", "9"], "validation: eval_steps needs eval_config", "one of these"),
        (["--ema_half_life", "9", "--ema_decay", "0.9"], "mine.yaml with the command line: ema: give", "one of these"),
    ],
)
def test_a_wrong_flag_is_named_with_what_to_do(least: list[str], flags: list[str], problem: str, remedy: str) -> None:
    error = refusal([*least, *flags])
    assert problem in error.problem
    assert remedy in error.remedy


def test_words_before_the_first_flag_are_refused() -> None:
    assert "unexpected `sketch.yaml`" in refusal(["sketch.yaml"]).problem


@pytest.mark.parametrize(
    ("text", "problem", "remedy"),
    [
        ("seed: 1\nema: [1, 2\n", "mine.yaml, line 3, column 1", "YAML"),
        ("seed: 1\nema:\n  use_ema: true\n  use_ema: false\n", "mine.yaml, line 4, column 3: `use_ema` is given", ""),
        ("seed: !!python/name:os.system\n", "mine.yaml, line 1, column 7", "YAML"),
        ("- seed\n", "mine.yaml: `key: value` lines", "demo.yaml"),
        ("", "mine.yaml: `key: value` lines", "demo.yaml"),
        ("optimiser: {}\n", "mine.yaml: unknown key `optimiser`", "`optimizer`"),
        ("learning_rate: 1\n", "mine.yaml: unknown key `learning_rate`", "under `optimizer:`"),
        ("ema: {seed: 1}\n", "mine.yaml: unknown key `ema.seed`", "at the top"),
        ("ema: {qqq: 1}\n", "mine.yaml: unknown key `ema.qqq`", "Known: ema_decay,"),
        ("lora: {rank: 4}\n", "mine.yaml: unknown key `lora`", ""),
        ("task: lora\n", "mine.yaml: `task` is not a group of keys", "below `task:`"),
        ("ema: 3\n", "mine.yaml: `ema` is not a group of keys", "below `ema:`"),
        ("task: {rank: 4}\n", "mine.yaml: `task.rank` needs kind lora", "kind: lora"),
        ("task: {range: 4}\n", "mine.yaml: `task` = {'range': 4}: Its kind is missing", "--help"),
        ("task: {kind: full, rank: 4}\n", "mine.yaml: `task.rank` needs kind lora", "kind: lora"),
        ("task: {kind: lora, rank: 0}\n", "mine.yaml: `task.rank` = 0", "`rank`"),
        ("training: {mixed_precision: yes}\n", "mine.yaml: `training.mixed_precision` = 'yes'", "mixed_precision"),
        ("ema: {use_ema: 1}\n", "mine.yaml: `ema.use_ema` = 1", "`use_ema`"),
        ("validation: {validation_prompts: [a, 3]}\n", "`validation.validation_prompts` = 3", "`validation_prompts`"),
    ],
)
def test_a_wrong_file_is_named_with_the_place_and_what_to_do(
    write: Write, text: str, problem: str, remedy: str
) -> None:
    error = refusal(["--config", write(text), "--pretrained_model_name_or_path", "base", "--dataset_name", "rows"])
    assert problem in error.problem
    assert remedy in error.remedy


def test_what_must_be_given_is_named(write: Write) -> None:
    error = refusal(["--config", write("seed: 1\n")])
    assert error.problem.endswith("mine.yaml: `model.pretrained_model_name_or_path` is missing")
    assert "--pretrained_model_name_or_path" in error.remedy
    error = refusal(["--config", write(yaml.safe_dump({"model": LEAST["model"]}))])
    assert error.problem.endswith("mine.yaml: data: give exactly one of dataset_name and train_data_dir")


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "picture.yaml").write_bytes(b"\xff\xd8\xff\xe0")
    assert "picture.yaml cannot be read" in refusal(["--config", str(tmp_path / "picture.yaml")]).problem


def test_a_file_s_mistake_is_its_own_even_where_flags_are_right(write: Write) -> None:
    path = write(yaml.safe_dump(LEAST | {"training": {"train_batch_size": -1}}))
    assert refusal(["--config", path, "--seed", "1"]).problem.startswith(f"{path}: `training.train_batch_size` = -1")


def test_a_section_whose_keys_are_commented_out_has_its_defaults(write: Write, least: list[str]) -> None:
    expected = load_config(least)
    path = write(yaml.safe_dump(LEAST) + "ema:\n  # use_ema: true\ntask:\n")
    assert load_config(["--config", path]) == expected


@pytest.mark.parametrize(("words", "meant"), [([], True), (["false"], False), (["null"], None)])
def test_a_switch_that_may_be_left_to_the_run(least: list[str], words: list[str], meant: bool | None) -> None:
    assert load_config([*least, "--channels_last", *words]).training.channels_last is meant


def test_no_is_a_precision_and_no_boolean(write: Write) -> None:
    path = write(yaml.safe_dump(LEAST) + "training: {mixed_precision: no}\n")
    assert load_config(["--config", path]).training.mixed_precision == "no"


@pytest.mark.parametrize("name", ["sketch", "sketch.yaml", "configs/sketch.yaml"])
def test_a_shipped_configuration_is_found_by_its_name(name: str) -> None:
    assert load_config(["--config", name]).data.dataset_name == "zoheb/sketch-scene"


def test_a_missing_configuration_lists_those_that_exist() -> None:
    error = refusal(["--config", "scetch"])
    assert "scetch" in error.problem
    assert all(path.stem in error.remedy for path in (ROOT / "configs").glob("*.yaml"))


def test_the_token_is_in_no_message_and_no_dump(write: Write, least: list[str]) -> None:
    config = load_config([*least, "--hub_token", "hf_secret"])
    assert "hf_secret" not in dump(config) + repr(config)
    for export in ({"hub_token": 12345}, [12345], {"hub_token": "hf_12345", "push_to_hub": 3}):
        assert "12345" not in str(refusal(["--config", write(yaml.safe_dump(LEAST | {"export": export}))]))


def reloaded(config: RunConfig) -> RunConfig:
    return validate(yaml.safe_load(dump(config)), "dump", schema=RunConfig)


@pytest.mark.parametrize(
    "flags",
    [
        [],
        ["--kind", "lora", "--target_modules", "to_k", "to_v"],
        ["--ema_half_life", "1000"],
        ["--cache_dir", "a b", "--mixed_precision", "no", "--max_grad_norm", "null"],
        ["--lr_scheduler", "piecewise_constant", "--lr_step_rules", "1:10,0.1"],
    ],
)
def test_a_dumped_configuration_loads_back_to_the_same(least: list[str], flags: list[str], write: Write) -> None:
    config = load_config([*least, *flags])
    assert load_config(["--config", write(dump(config))]) == config


@example(["\x85 \u2028\ufeff\n\t x", "caf\u00e9 \u732b", "no", "1e5", "- a: b #", " "], 1e-5)
@given(st.lists(st.text(st.characters(codec="utf-8")), min_size=1), st.floats(0, 1e6))
def test_any_text_and_number_survives_a_dump(prompts: list[str], rate: float) -> None:
    values = {"validation": {"validation_prompts": prompts}, "optimizer": {"learning_rate": rate}}
    config = validate(LEAST | values, "test", schema=RunConfig)
    assert reloaded(config) == config


@pytest.mark.parametrize("schema", SCHEMAS)
def test_a_key_s_name_says_where_it_belongs(schema: type[BaseConfig]) -> None:
    counted = Counter([name for _, name, _ in leaves(schema)] + list(sections(schema)) + ["config", "help"])
    assert [name for name, count in counted.items() if count > 1] == []


@pytest.mark.parametrize("schema", SCHEMAS)
def test_help_gives_every_key_with_its_meaning(schema: type[BaseConfig], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.load_config(["--config", "nothing", "--help"], schema)
    shown = capsys.readouterr().out
    assert caught.value.code == 0
    assert shown == help_text(schema)
    for _, name, field in leaves(schema):
        assert f"  --{name}" in shown
        assert field.description is not None
        assert " ".join(field.description.split()) in " ".join(shown.split())


def test_help_gives_default_unit_and_kind() -> None:
    shown = help_text(RunConfig)
    assert "--kind full|lora   [default full]" in shown
    assert "--noise_offset NUMBER   [default 0.0]" in shown
    assert "--max_train_steps INTEGER   [default null; updates]" in shown
    assert "--use_dora   [default false; of kind lora only]" in shown


@pytest.mark.parametrize("schema", SCHEMAS)
def test_the_schema_for_editors_is_current(schema: type[BaseConfig]) -> None:
    path = ROOT / "configs" / f"{Path(schema.program).stem}.schema.json"
    assert path.read_text(encoding="utf-8") == json_schema(schema), "run `make schema`"
    assert json.loads(json_schema(schema))["properties"]["optimizer"]


def test_a_mistake_ends_in_two_lines_and_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    def main(argv: Sequence[str]) -> None:
        raise DataError(f"row {argv[0]} is empty", "Fill it.")

    with pytest.raises(SystemExit) as caught:
        run_main(main, ["7"])
    assert caught.value.code == 2
    assert capsys.readouterr().err == "error: row 7 is empty\nFill it.\n"


def test_only_the_first_process_tells_a_mistake(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def main(argv: Sequence[str]) -> None:
        raise DataError("row 7 is empty", "Fill it.")

    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr("toolkit.cli._HEAD_START", 0)
    with pytest.raises(SystemExit) as caught:
        run_main(main, [])
    assert caught.value.code == 2
    assert capsys.readouterr().err == ""


def test_a_bug_keeps_its_traceback() -> None:
    def main(argv: Sequence[str]) -> None:
        raise KeyError("bug")

    with pytest.raises(KeyError):
        run_main(main, [])
