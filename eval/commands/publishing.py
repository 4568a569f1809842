"""What a command says at its end, and leaves behind."""

import sys
from collections.abc import Sequence
from pathlib import Path

from accelerate import PartialState

from eval.commands.layout import aligned
from eval.report.html import write_report
from eval.result import Figure, Prompt, Report

_PROMPTS_SHOWN = 20


def publish(report: Report, output: Path) -> None:
    """Write the report and print its figures; the first process does."""
    if not PartialState().is_main_process:
        return
    page = write_report(report, output)
    for heading, group in report.figures.items():
        print(f"\n{heading}")
        for figure in group:
            print(f"  {in_words(figure)}")
    print(f"\n{prompt_table(report.prompts)}")
    for warning in report.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    if report.verdict is not None:
        print(f"\n{report.verdict.sentence}")
        for sentence in (*report.verdict.findings, *(f"missed: {each}" for each in report.verdict.missed)):
            print(sentence)
    print(f"report: {page}")


def prompt_table(prompts: Sequence[Prompt]) -> str:
    """The mean similarity of each prompt's pictures by experiment, raw and in percent; the base's beside it."""
    rows = [["mean similarity of a prompt's pictures", *prompts[0].similarity]]
    for prompt in prompts[:_PROMPTS_SHOWN]:
        base = prompt.similarity_base
        cells = [
            f"{mean:.4f} ({100 * mean:.2f} %)" + (f", base {base[name]:.4f}" if name in base else "")
            for name, mean in prompt.similarity.items()
        ]
        rows.append([prompt.text, *cells])
    more = len(prompts) - _PROMPTS_SHOWN
    return aligned(rows) + (f"\n{more} more are in the report" if more > 0 else "")


def in_words(figure: Figure) -> str:
    """A figure on one line."""
    if figure.value is None:
        return f"{figure.label}: {figure.note}"
    interval = "" if figure.low is None or figure.high is None else f" ({figure.low:.4f} to {figure.high:.4f})"
    note = f"; {figure.note}" if figure.note else ""
    return f"{figure.label}: {figure.value:.4f}{interval}, n = {figure.n}{note}"
