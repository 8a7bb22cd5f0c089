"""Imports what the commands import when they run; loaded once, by the server of tests/e2e/processes.py."""

import distill.ablation.run
import distill.ablation.trial
import distill.cli.ablate
import distill.cli.train
import distill.workflows.evaluate  # noqa: F401
