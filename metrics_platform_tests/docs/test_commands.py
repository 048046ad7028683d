"""Every command in the documents is run on the running stack, or stands in a list that says why not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from metrics_platform_tests.docs import forms
from metrics_platform_tests.docs.documents import DOCUMENTS, Command, all_commands, name, spans
from metrics_platform_tests.docs.exceptions import NOT_RUN, RUN, exception, is_run

COMMANDS = list(all_commands())


@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_a_command_is_run_or_it_is_said_why_not(command: Command) -> None:
    assert is_run(command) != (exception(command) is not None)


@pytest.mark.parametrize("command", [one for one in COMMANDS if exception(one)], ids=str)
def test_a_command_that_is_not_run_has_the_form_that_its_program_takes(command: Command) -> None:
    why = exception(command)
    assert why
    why.check(command.text)


def test_no_list_has_a_line_too_many() -> None:
    written = [f"{command.text} " for command in COMMANDS]
    starts = [*RUN, *(one.start for one in NOT_RUN)]
    assert [start for start in starts if not any(text.startswith(start) for text in written)] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_commands_in_running_text_exist(document: Path) -> None:
    for span in spans(document):
        if re.match(r"(\.venv/bin/)?metrics-platform ", span):
            forms.names_platform_options(span)
        elif re.match(r"make [a-z]", span):
            forms.is_target(span)
