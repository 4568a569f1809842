"""What a command says at its end, and leaves behind."""

import sys
import textwrap
from pathlib import Path

from accelerate import PartialState

from eval.commands.layout import table
from eval.report.html import write_report
from eval.result import Figure, Report

_PROMPTS = 20
"""Prompts that are listed in a terminal; report.json has all."""


def publish(report: Report, output: Path) -> None:
    """Write the report and print its figures; the first process does."""
    if not PartialState().is_main_process:
        return
    page = write_report(report, output)
    for heading, group in report.figures.items():
        print(f"\n{heading}")
        for figure in group:
            print(f"  {in_words(figure)}")
    print(f"\n{_by_prompt(report)}")
    for warning in report.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    if report.verdict is not None:
        print(f"\n{report.verdict.sentence}")
        for sentence in (*report.verdict.findings, *(f"missed: {each}" for each in report.verdict.missed)):
            print(sentence)
    print(f"report: {page}")


def _by_prompt(report: Report) -> str:
    """The mean cosine of each prompt, by experiment and model."""
    columns: dict[str, list[Figure]] = {}
    for number, prompt in enumerate(report.prompts[:_PROMPTS], 1):
        label = f"{number} {textwrap.shorten(prompt.text, 60)}"
        for name, means in prompt.similarity.items():
            for model, value in (("base", means.base), ("tuned", means.tuned)):
                if value is not None:
                    n = sum(pair.prompt == number - 1 for pair in report.pairs)
                    columns.setdefault(f"{name}, {model}", []).append(Figure("similarity", label, value, n=n))
    more = len(report.prompts) - _PROMPTS
    return table("similarity by prompt", columns) + (f"\n{more} more are in report.json" if more > 0 else "")


def in_words(figure: Figure) -> str:
    """A figure on one line."""
    if figure.value is None:
        return f"{figure.label}: {figure.note}"
    interval = "" if figure.low is None or figure.high is None else f" ({figure.low:.4f} to {figure.high:.4f})"
    note = f"; {figure.note}" if figure.note else ""
    return f"{figure.label}: {figure.value:.4f}{interval}, n = {figure.n}{note}"
