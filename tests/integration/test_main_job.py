"""The main job: create, run, list and delete."""

from __future__ import annotations

from codecontext import CodeContext, CodeContextClient, Outcome


def test_state_stays_from_run_to_run(client: CodeContextClient, context: CodeContext) -> None:
    """What a run has defined is there in the next one, and runs are counted."""
    assert client.run_code("x = 20", context=context).execution_count == 1
    second = client.run_code("x + 22", context=context)
    assert second.outcome is Outcome.SUCCEEDED
    assert second.results[0].text == "42"
    assert second.results[0].is_main_result
    assert second.execution_count == 2
