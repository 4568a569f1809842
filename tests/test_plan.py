"""The command that says whether a run fits, and what to switch on where it does not."""

import pytest

from toolkit.__main__ import main
from toolkit.cli import SHIPPED, load_config
from toolkit.config import RunConfig, ScratchConfig
from toolkit.errors import ConfigError, NoRoomError
from toolkit.forecast import command, switches
from toolkit.forecast.probe import probe
from toolkit.forecast.rows import Length, length_of
from toolkit.forecast.simulate import PARTS, Simulated

GIB = 2**30


@pytest.fixture
def words(config_file):
    return ["--config", str(config_file), "--train_batch_size", "8", "--gradient_accumulation_steps", "2"]


def taken(config):
    """A made-up memory in GiB, in which every switch counts."""
    sizes = {
        "weights": 1.0,
        "gradients": 0.0 if config.optimizer.fused_backward else 1.0,
        "optimizer": 0.5 if config.optimizer.use_8bit_adam else 2.0,
        "average (EMA)": 0.0 if config.ema.offload_ema else 1.0,
        "activations": config.training.train_batch_size * (0.5 if config.model.gradient_checkpointing else 1.0),
    }
    return {part: int(GIB * sizes.get(part, 0)) for part in PARTS}


@pytest.fixture
def made_up(monkeypatch):
    monkeypatch.setattr(
        command, "simulate", lambda config, *_, **__: Simulated(taken(config), 3 * GIB, 2 * GIB, 100, 50)
    )


@pytest.mark.parametrize(
    ("room", "flags"),
    [
        (7.5, "--train_batch_size 2 --gradient_accumulation_steps 8"),
        (5.6, "--train_batch_size 1 --gradient_accumulation_steps 16 --gradient_checkpointing true"),
        (5.1, "--train_batch_size 1 --gradient_accumulation_steps 16 --offload_ema true"),
        (3.1, "--train_batch_size 1 --gradient_accumulation_steps 16 --gradient_checkpointing true --offload_ema true"),
    ],
)
def test_the_cheapest_switches_that_fit_are_found(words, monkeypatch, room, flags):
    known = [switch for switch in switches.CHEAPEST_FIRST if switch[0] in ("gradient_checkpointing", "offload_ema")]
    known.append(("use_8bit_adam", "true"))
    monkeypatch.setattr(switches, "CHEAPEST_FIRST", tuple(known))
    found, least = switches.cheapest(words, lambda config: sum(taken(config).values()), room * GIB)
    eight_bit = " --use_8bit_adam true" if room < 4 else ""
    assert " ".join(found.flags) == flags + eight_bit
    assert found.is_the_same == (not eight_bit)
    assert load_config([*words, *found.flags], RunConfig) == found.config
    assert sum(taken(least.config).values()) == 3 * GIB


def test_switches_that_the_configuration_refuses_or_does_not_know_are_not_proposed(words, monkeypatch):
    monkeypatch.setattr(switches, "CHEAPEST_FIRST", (*switches.CHEAPEST_FIRST, ("no_such_key", "true")))
    lora = [*words, "--kind", "lora", "--use_ema", "false", "--algorithm", "lion8bit"]
    flags = {flag for group in switches._groups(lora) for candidate in group for flag in candidate.flags}
    assert "--gradient_checkpointing" in flags
    assert flags & {"--no_such_key", "--offload_ema", "--use_8bit_adam"} == set()


def test_an_optimizer_that_undoes_channels_last_is_not_proposed_beside_it(words):
    words = [*words, "--mixed_precision", "bf16", "--channels_last"]
    flags = [candidate.flags for group in switches._groups(words) for candidate in group]
    eight_bit = [each for each in flags if "--use_8bit_adam" in each]
    assert eight_bit and all("--weights_dtype" in each for each in eight_bit)


def test_the_command_says_what_a_run_takes_and_proposes_flags(words, made_up, capsys):
    main(["plan", *words[1:], "--rows", "100", "--probe", "0", "--memory", "8.5GiB"])
    said = capsys.readouterr().out
    assert "peak memory of an update in float32: 13.00 GiB of 8.50 GiB" in said
    assert "  optimizer           2.00 GiB" in said
    assert "  4 checkpoints      12.00 GiB" in said
    assert "does not fit" in said
    assert said.endswith("\n  --train_batch_size 2 --gradient_accumulation_steps 8\n")
    main(["plan", *words[1:], "--rows", "100", "--probe", "0", "--memory", "14.4GiB"])
    assert capsys.readouterr().out.endswith("It fits.\n")


def test_where_nothing_fits_the_least_is_said(words, made_up, capsys):
    with pytest.raises(NoRoomError, match=r"does not fit: with `.*` it still takes 3\.00 GiB") as caught:
        main(["plan", *words[1:], "--rows", "100", "--probe", "0", "--memory", "2GiB"])
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("name", "program"),
    [
        ("builtin_birds_gan.yaml", "train_gan"),
        ("nabirds_t5.yaml", "train_unconditional"),
        ("builtin_birds_vae.yaml", "train_unconditional"),
    ],
)
def test_other_kinds_of_run_are_told_how_to_find_out(name, program):
    with pytest.raises(ConfigError, match=rf"does not forecast(.|\n)*{program}\.py(.|\n)*max_train_steps 3"):
        main(["plan", name])


def test_runs_from_random_weights_are_planned_too(capsys):
    main(["plan", "builtin_birds.yaml", "--mixed_precision", "bf16", "--probe", "0", "--memory", "1GiB"])
    said = capsys.readouterr().out
    assert "encodings            0.0 MiB" in said
    assert "  4 checkpoints" in said
    assert said.endswith("It fits.\n")
    groups = list(switches._groups(["--config", "builtin_birds.yaml", "--mixed_precision", "bf16"]))
    assert groups[0][1].flags == ("--train_batch_size", "16", "--gradient_accumulation_steps", "2")
    assert {candidate.config.program for group in groups for candidate in group} == {"train_unconditional.py"}
    assert len(groups) == 2**5


def test_latents_are_kept_and_no_captions(tmp_path):
    words = ["--kind", "latents", "--vae", "vae", "--dataset_name", "builtin:birds", "--center_crop"]
    config = load_config([*words, "--train_batch_size", "4", "--max_train_steps", "40"], ScratchConfig)
    assert length_of(config, 100) == Length(40, 100, 0)
    pixels = load_config([*words, "--kind", "pixels"], ScratchConfig)
    assert not length_of(pixels, 100).is_encoded


def test_the_length_of_a_run_and_what_it_keeps_follow_the_rows(words):
    def length(*flags, rows):
        return length_of(load_config([*words, *flags], RunConfig), rows)

    # 8 updates of 16 visits; rows are mirrored, so each is seen in two ways.
    assert length(rows=20) == length_of(load_config(words, RunConfig), 20)
    assert not length(rows=20).is_encoded
    found = length("--center_crop", rows=20)
    assert (found.updates, found.pictures, found.texts) == (8, 40, 21)
    assert not length("--center_crop", rows=50).is_encoded
    assert not length("--center_crop", "--cache", "off", rows=20).is_encoded
    assert length("--center_crop", "--cache", "folder", rows=200).pictures == 128
    assert length("--max_train_steps", "null", "--num_train_epochs", "3", rows=33).updates == 7
    # The built-in scenes are squares, all 13 rows of the run.
    assert length(rows=None).pictures == 26


def test_a_probe_times_real_updates_and_leaves_nothing(config_file, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    found = probe(["--config", str(config_file), "--use_ema", "false"], 1, None)
    assert 0 <= found.data_wait <= 1
    assert 0 < found.seconds < 60
    assert found.memory > 0.1
    # That the data were checked is kept, as by any run.
    left = [path for path in sorted(tmp_path.rglob("*")) if path not in before]
    assert [path for path in left if "cache" not in path.relative_to(tmp_path).parts] == []


def test_a_run_from_random_weights_is_timed(tmp_path, capfd):
    (tmp_path / "birds.yaml").write_text((SHIPPED / "builtin_birds.yaml").read_text())
    flags = ["--max_train_samples", "32", "--cache_dir", str(tmp_path / "cache"), "--train_batch_size", "2"]
    found = probe(["--config", str(tmp_path / "birds.yaml"), *flags], 1, None)
    assert 0 < found.seconds < 60
    assert "has no effect" not in capfd.readouterr().err


def test_a_run_that_cannot_start_is_not_timed(config_file):
    with pytest.raises(ConfigError, match="ended before its second update"):
        probe(["--config", str(config_file), "--pretrained_model_name_or_path", "nowhere"], 1, None)


def test_amounts_of_memory_are_read_with_their_unit(capsys):
    assert command._bytes("14.75GiB") == int(14.75 * 2**30)
    assert command._bytes("16 GB") == 16 * 10**9
    with pytest.raises(SystemExit):
        main(["plan", "sketch.yaml", "--memory", "14"])
    assert "14.75GiB" in capsys.readouterr().err
