"""What happens between steps. A hook is a function of the run and the step that was just done."""

from toolkit.batch import Step
from toolkit.loop import Hook
from toolkit.run import Run


def is_due(step: int, period: int, last: int) -> bool:
    """Whether periodic work is due: at each multiple of the period, step 0 included, and at the last step."""
    return step % period == 0 or step == last


def every(period: int, hook: Hook) -> Hook:
    """Call `hook` each `period` steps, at step 0 and at the last one."""

    def periodic(run: Run, step: Step) -> None:
        if is_due(step.index, period, run.plan.max_train_steps):
            hook(run, step)

    return periodic
