"""Charts that code in a context draws, as a client gets them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NoReturn

import jsonschema

from codecontext import CodeContext, CodeContextClient, Result
from codecontext.results import CHART_MIME_TYPE

PLT = "import matplotlib.pyplot as plt, numpy as np\nnan, inf = np.nan, np.inf\n"

SCHEMA = json.loads(
    (Path(__file__).parents[2] / "docs" / "charts.schema.json").read_text(encoding="utf-8")
)
_VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def checked(result: Result) -> dict[str, Any]:
    """Returns a result's chart, which must be strict JSON and fit the schema."""
    chart = result.chart
    assert chart is not None, result.formats()
    json.loads(str(result.data[CHART_MIME_TYPE]), parse_constant=_refuse)
    _VALIDATOR.validate(chart)
    return chart


def _refuse(constant: str) -> NoReturn:
    raise AssertionError(f"{constant} is no JSON")


class Plotter:
    """Draws in a context."""

    def __init__(self, client: CodeContextClient, context: CodeContext) -> None:
        """Takes a context that nothing else draws in."""
        self.client = client
        self.context = context

    def results(self, code: str) -> list[Result]:
        """Runs code that must end well and silently, and returns its results."""
        execution = self.client.run_code(PLT + code, context=self.context)
        assert execution.error is None, execution.error
        assert not execution.stderr, execution.stderr
        return execution.results

    def chart(self, code: str) -> dict[str, Any]:
        """Runs code that draws one figure, and returns its chart, which came beside its image."""
        (result,) = [each for each in self.results(code) if each.png is not None]
        return checked(result)

    def series(self, code: str) -> list[dict[str, Any]]:
        """As `chart`, for a figure whose series are all that matters; none may be truncated."""
        chart = self.chart(code)
        assert not chart["truncated"]
        assert chart["series_count"] == len(chart["series"])
        assert not any(each["truncated"] for each in chart["series"])
        return list(chart["series"])
