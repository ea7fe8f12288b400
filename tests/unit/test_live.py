"""Progress bars: seen by a reader, kept by no executed notebook."""

import nbformat
import pytest
from nbclient import NotebookClient

CELL = """from ilbook.page.live import bar
with bar(4, "a") as told:
    for _ in range(4):
        told.update()"""


class Reader(NotebookClient):
    """Says of itself what JupyterLab says: that somebody sits there who can be asked."""

    async def async_start_new_kernel_client(self):
        client = await super().async_start_new_kernel_client()
        client.allow_stdin = True
        return client


@pytest.mark.parametrize("variable", ["JPY_SESSION_NAME", "VSCODE_PID", ""])
@pytest.mark.parametrize("client", [Reader, NotebookClient])
def test_a_notebook_holds_a_bar_only_where_a_reader_runs_it(monkeypatch, client, variable):
    """nbclient, which papermill and nbconvert use too, inherits the variables where JupyterLab's kernel starts it."""
    for name in ("ILBOOK_OUT", "JPY_SESSION_NAME", "VSCODE_PID", "VSCODE_CWD"):
        monkeypatch.delenv(name, raising=False)
    if variable:
        monkeypatch.setenv(variable, "page.ipynb")
    reader = client is Reader and bool(variable)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CELL)])
    client(notebook, kernel_name="python3", timeout=60).execute()
    kinds = [kind for output in notebook.cells[0].outputs for kind in output.get("data", {})]
    assert ("application/vnd.jupyter.widget-view+json" in kinds) is reader
    assert reader or notebook.cells[0].outputs == []
