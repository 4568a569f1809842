"""The report of an experiment: report.json for programs, report.md for people, figures/ for both."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

from matplotlib.figure import Figure

from eval.distribution import shown
from experiments.comparing import Verdict, told
from experiments.figures import COLUMNS, held_out_figure, kid_figure, sheet, trilemma_figure
from experiments.study import Study
from experiments.summary import Summary
from toolkit.files import write_json, write_text, write_with

FORMAT = 1
"""To be raised when the meaning of report.json changes."""
_DPI = 150


def write_ablation(study: Study, output: Path) -> None:
    """The report of an ablation, whose path is printed; without a finished training there is none."""
    if not _has_results(study):
        return
    _write_json(study, output, "ablation")
    kid, _ = shown(study.distribution.network)
    trainings = list(study.judgements.values())
    _save_figure(output, "kid", kid_figure(study.summaries, study.distribution.floor, kid))
    held_out = held_out_figure(trainings, study.verdicts)
    if held_out is not None:
        _save_figure(output, "held_out", held_out)
    sheets = _write_sheets(study, output)
    parts = [
        f"# {study.name}",
        _verdicts(study.verdicts),
        f"![KID of each arm](figures/kid.png)\n\n{_table(study, _ABLATION)}",
        _how_to_read(study),
        _held_out(study.verdicts, has_figure=held_out is not None),
        _samples(sheets),
        _failures(study.failures),
    ]
    _write_markdown(output, parts)


def write_trilemma(study: Study, output: Path) -> None:
    """The report of a trilemma, likewise."""
    if not _has_results(study):
        return
    _write_json(study, output, "trilemma")
    kid, _ = shown(study.distribution.network)
    _save_figure(output, "trilemma", trilemma_figure(study.summaries, study.distribution.floor, kid))
    parts = [
        f"# {study.name}",
        f"![Quality, coverage, speed and cost](figures/trilemma.png)\n\n{_table(study, _TRILEMMA)}",
        _how_to_read(study),
        "Training is counted with that of the autoencoder, where latents need one. A network evaluation is a forward "
        "pass for one picture; speed is that of drawing on the device of the table, in batches.",
        _verdicts(study.verdicts),
        _samples(_write_sheets(study, output)),
        _failures(study.failures),
    ]
    _write_markdown(output, parts)


def _has_results(study: Study) -> bool:
    if not study.judgements:
        print("no training is finished, so there is nothing to report")
    return bool(study.judgements)


def _write_json(study: Study, output: Path, experiment: str) -> None:
    distribution = study.distribution
    write_json(
        output / "report.json",
        {
            "format": FORMAT,
            "experiment": experiment,
            "name": study.name,
            "config": study.config.model_dump(mode="json"),
            "network": asdict(distribution.network.embedder.record),
            "reference": {"pictures": len(distribution.reference), "kid_floor": asdict(distribution.floor)},
            "arms": [asdict(summary) for summary in study.summaries],
            "verdicts": [asdict(verdict) for verdict in study.verdicts],
            "failures": list(study.failures),
        },
    )


def _verdicts(verdicts: Sequence[Verdict]) -> str:
    """A sentence per contrast, those at one combination of other factors under that over all of them."""
    lines: list[str] = []
    for factor in dict.fromkeys(verdict.factor for verdict in verdicts):
        lines += ["", f"**{factor}**", ""]
        for verdict in verdicts:
            if verdict.factor == factor:
                lines.append(f"{'  ' if verdict.given else ''}- {verdict.sentence}.")
    return "\n".join(["## Verdict", *lines]) if lines else ""


def _held_out(verdicts: Sequence[Verdict], *, has_figure: bool) -> str:
    sentences = dict.fromkeys(verdict.held_out_sentence for verdict in verdicts)
    parts = ["## Held-out loss"]
    if has_figure:
        parts.append("![Held-out loss by timestep](figures/held_out.png)")
    if sentences:
        parts.append("\n".join(f"- {sentence}." for sentence in sentences))
    return "\n\n".join(parts) if len(parts) > 1 else ""


_Column = tuple[str, Callable[[Summary, Study], str]]


def _kid(summary: Summary, study: Study) -> str:
    return told(summary.kid, sign="")


def _frechet(summary: Summary, study: Study) -> str:
    found = summary.frechet
    if found is None:
        return "too few pictures"
    return f"{found.distance:.3g} (floor {found.floor:.3g}, n = {found.n})"


def _share(name: str) -> Callable[[Summary, Study], str]:
    def cell(summary: Summary, study: Study) -> str:
        return "too few pictures" if summary.neighbours is None else f"{getattr(summary.neighbours, name):.2f}"

    return cell


def _slower(summary: Summary, study: Study) -> str:
    fastest = max(each.pictures_per_second for each in study.summaries)
    return f"{fastest / summary.pictures_per_second:.3g}"


_COST: tuple[_Column, ...] = (
    ("images seen", lambda summary, _: f"{summary.images:,}"),
    ("seconds of training", lambda summary, _: f"{summary.seconds:,.0f}"),
    ("images/s in training", lambda summary, _: f"{summary.images_per_second:,.0f}"),
    ("parameters", lambda summary, _: f"{summary.parameters:,}"),
)
_ABLATION: tuple[_Column, ...] = (
    ("arm", lambda summary, _: summary.arm),
    ("seeds", lambda summary, _: ", ".join(map(str, summary.seeds))),
    ("{kid}", _kid),
    ("{fid}", _frechet),
    *_COST,
)
_TRILEMMA: tuple[_Column, ...] = (
    ("arm", lambda summary, _: summary.arm),
    ("{kid}", _kid),
    ("{fid}", _frechet),
    ("precision", _share("precision")),
    ("recall", _share("recall")),
    ("coverage", _share("coverage")),
    ("pictures/s", lambda summary, _: f"{summary.pictures_per_second:,.3g}"),
    ("times slower than the fastest", _slower),
    ("network evaluations", lambda summary, _: f"{summary.network_evaluations:g}"),
    *_COST,
)


def _table(study: Study, columns: Sequence[_Column]) -> str:
    kid, fid = shown(study.distribution.network)
    header = [title.format(kid=kid, fid=fid) for title, _ in columns]
    rows = [[cell(summary, study) for _, cell in columns] for summary in study.summaries]
    return "\n".join(f"| {' | '.join(row)} |" for row in [header, ["---"] * len(header), *rows])


def _how_to_read(study: Study) -> str:
    distribution = study.distribution
    several = any(len(summary.seeds) > 1 for summary in study.summaries)
    over = (
        "over trainings and held-out pictures"
        if several
        else "over drawn and held-out pictures of one training, and says nothing of other seeds"
    )
    floor = distribution.floor
    return (
        f"Each model has drawn {len(distribution.requests)} pictures from the same seeds; {distribution.network.title} "
        f"has compared them with {len(distribution.reference)} held-out ones. 0 is a perfect model, lower is better, "
        f"and halves of the held-out pictures are from {floor.low:.2g} to {floor.high:.2g} apart "
        f"({floor.n} against {floor.n}). An interval is of 95 %, {over}. A Fréchet distance falls with n and has a "
        f"meaning only beside its floor, real pictures against real ones at the same n. Drawn on "
        f"{study.summaries[0].device}."
    )


def _write_sheets(study: Study, output: Path) -> list[int]:
    """A sheet for each seed that was trained; the seeds."""
    seeds = sorted({seed for _, seed in study.judgements})
    for seed in seeds:
        arms = [(arm, each.drawn.files) for (arm, of), each in study.judgements.items() if of == seed]
        write_with(_figure(output, f"samples-seed-{seed}"), sheet(arms).save)
    return seeds


def _samples(seeds: Sequence[int]) -> str:
    words = f"Rows are arms, and the pictures of a column are drawn from one seed: 0 to at most {COLUMNS - 1}."
    pictures = [f"![Samples of the trainings with seed {seed}](figures/samples-seed-{seed}.png)" for seed in seeds]
    return "\n\n".join(["## Samples", words, *pictures])


def _failures(failures: Sequence[str]) -> str:
    return "\n".join(["## Failed", "", *(f"- {failure}" for failure in failures)]) if failures else ""


def _write_markdown(output: Path, parts: Sequence[str]) -> None:
    write_text(output / "report.md", "\n\n".join(part for part in parts if part) + "\n")
    print(f"report: {output / 'report.md'}")


def _figure(output: Path, name: str) -> Path:
    return output / "figures" / f"{name}.png"


def _save_figure(output: Path, name: str, figure: Figure) -> None:
    write_with(_figure(output, name), partial(figure.savefig, dpi=_DPI))
