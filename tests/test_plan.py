"""The command that says whether a run fits, and what to switch on where it does not."""

import pytest

from toolkit import host_memory
from toolkit.__main__ import main
from toolkit.cli import SHIPPED, load_config
from toolkit.config import RunConfig, ScratchConfig
from toolkit.data.source import Source
from toolkit.errors import ConfigError, NoRoomError
from toolkit.forecast import command, switches
from toolkit.forecast.probe import Probed, probe
from toolkit.forecast.rows import Length, length_of
from toolkit.forecast.simulate import JUDGED, PARTS, Simulated

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
        command,
        "simulate",
        lambda config, *_, **__: Simulated(
            taken(config), 4 * GIB * config.ema.offload_ema, 3 * GIB, 2 * GIB, picture=100, text=50
        ),
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


def test_an_average_is_proposed_for_the_host_only_where_that_has_the_memory(words, made_up, capsys, monkeypatch):
    def planned(memory, *flags):
        main(["plan", *words[1:], "--rows", "100", "--probe", "0", "--memory", memory, *flags])
        return capsys.readouterr().out

    takes = "the average takes 4.00 GiB of the host's memory, of"
    said = planned("5.7GiB", "--host_memory", "4GiB")
    assert said.endswith(f"--offload_ema true\n{takes} 4.00 GiB that are available\n")
    monkeypatch.setattr(command, "available_host_bytes", lambda: 3 * GIB)
    said = planned("5.7GiB")
    assert f"Without offload_ema: {takes} 3.00 GiB that are available, which is too little\n" in said
    assert "--offload_ema true" not in said
    said = planned("14.4GiB", "--offload_ema")
    assert f"\n{takes} 3.00 GiB that are available, which is too little\n" in said
    assert said.endswith("It fits.\n")
    assert "host" not in planned("14.4GiB")
    with pytest.raises(NoRoomError, match=r"still takes 4\.00 GiB"):
        planned("2GiB")


def test_what_the_host_has_left_is_no_more_than_a_container_is_allowed(tmp_path, monkeypatch):
    assert 2**20 < host_memory.available_host_bytes() < 2**50
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(host_memory, "_LIMITS", (limit, tmp_path / "none"))
    limit.write_text("max\n")
    assert host_memory.available_host_bytes() > 2**20
    limit.write_text("1048576\n")
    assert host_memory.available_host_bytes() == 2**20


def test_bfloat16_weights_are_no_help_where_a_run_is_judged(words):
    words = [*words, "--mixed_precision", "bf16"]

    def peak(config):
        return 6 if config.training.weights_dtype == "bfloat16" else 8 - 4 * config.optimizer.use_8bit_adam

    found, least = switches.cheapest(words, peak, 5)
    assert peak(least.config) == 4
    assert "--use_8bit_adam" in found.flags and "--weights_dtype" not in found.flags


def test_memory_that_is_needed_to_judge_a_run_is_not_called_that_of_an_update():
    said = command._memory({"weights": GIB, JUDGED: 2 * GIB}, 4 * GIB, "bf16", encoded=False)
    assert said.startswith("peak memory while the run is judged: 3.00 GiB of 4.00 GiB\n")
    assert said.endswith("  float32 weights     2.00 GiB")


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


class Named(Source):
    """Rows of several captions, some of which repeat."""

    def __init__(self, *captions):
        self.all = captions

    def __len__(self):
        return len(self.all)

    def captions(self, index):
        return self.all[index]

    row_id = image = fingerprint = None


def test_captions_are_counted_once_however_often_they_are_there(words, monkeypatch):
    rows, held_out = Named(("a", "b"), ("a",), ("c", "a"), ()), Named(("d", "e"), ("a",), (), ("f",))
    monkeypatch.setattr("toolkit.forecast.rows.split_rows", lambda config: (rows, held_out))
    config = load_config([*words, "--center_crop", "--validation_rows", "3"], RunConfig)
    # a, b, c; of the three that are measured d; and the empty one.
    assert length_of(config, None).texts == 5


def test_what_is_encoded_is_told_beside_disk_and_time(words, made_up, capsys, monkeypatch):
    monkeypatch.setattr(command, "probe", lambda *_: Probed(1.0, 0.5, 1.0))
    plan = ["plan", *words[1:], "--memory", "14.4GiB"]
    main([*plan, "--rows", "20", "--center_crop"])
    said = capsys.readouterr().out
    assert "(encodings as if none of them were kept yet)" in said
    assert "encoding of 40 pictures and 21 captions, as far as they are not kept yet, comes before it" in said
    main([*plan, "--rows", "20"])
    said = capsys.readouterr().out
    assert "as if none" not in said and "encoding of" not in said


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
