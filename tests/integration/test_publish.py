"""Files that code names for its caller."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.servers import ServerProcess

from codecontext import AsyncCodeContextClient, CodeContext, CodeContextClient, PublishedFile


def test_a_published_file_is_a_result_that_can_be_downloaded(
    client: CodeContextClient, context: CodeContext, tmp_path: Path
) -> None:
    """A result names the file, its size and its type, and its content comes when it is asked for."""
    code = "open('out.csv', 'w').write('a,b\\n'); codecontext.publish('out.csv'); 7"
    execution = client.run_code(code, context=context)
    published, value = execution.results
    assert published.file == PublishedFile("out.csv", 4, "text/csv")
    assert (published.text, value.text, value.file) == ("out.csv (4 bytes)", "7", None)
    assert published.download() == b"a,b\n"
    assert published.download(tmp_path / "local.csv").size_bytes == 4
    assert (tmp_path / "local.csv").read_text() == "a,b\n"
    again = client.get_execution(execution)
    assert again.results[0].download() == b"a,b\n"
    with pytest.raises(ValueError, match="names no file"):
        value.download()


async def test_the_asynchronous_client_downloads_it_too(
    server: ServerProcess, context: CodeContext
) -> None:
    """With asyncio the download is awaited."""
    async with AsyncCodeContextClient(server.target) as client:
        code = "import codecontext, os\nos.makedirs('d/é'); open('d/é/x', 'w').write('1')\n"
        code += "os.chdir('d'); codecontext.publish('é/x', 'text/special')"
        execution = await client.run_code(code, context=context)
        assert execution.results[0].file == PublishedFile("d/é/x", 1, "text/special")
        assert await execution.results[0].download() == b"1"


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("/etc/passwd", "ValueError"),
        ("none", "FileNotFoundError"),
        (".", "ValueError"),
        ("link", "ValueError"),
    ],
)
def test_only_files_of_the_workspace_are_published(
    client: CodeContextClient, context: CodeContext, path: str, error: str
) -> None:
    """What the caller could not download raises in the code."""
    code = f"import os; os.symlink('/etc/passwd', 'link'); codecontext.publish({path!r})"
    execution = client.run_code(code, context=context)
    assert execution.results == []
    assert execution.error is not None
    assert execution.error.name == error


def test_the_name_does_not_hide_the_client(client: CodeContextClient, context: CodeContext) -> None:
    """Code that imports the client gets it, where it is installed, and can still publish."""
    code = (
        "from codecontext import CodeContextClient\nimport codecontext.v1.execution_pb2\n"
        "open('f', 'w').close(); codecontext.publish('f')\nCodeContextClient.__name__"
    )
    execution = client.run_code(code, context=context)
    assert execution.error is None
    assert execution.text == "'CodeContextClient'"
    assert execution.results[0].file is not None
    missing = client.run_code("import codecontext; codecontext.missing", context=context)
    assert missing.error is not None
    assert missing.error.name == "AttributeError"
