"""Progress bars: seen by a reader, kept by no executed notebook."""

import nbformat
import pytest
from nbclient import NotebookClient

CELL = """from ilbook.page.live import bar
with bar(4, "a") as told:
    for _ in range(4):
        told.update()"""


@pytest.mark.parametrize("reader", [False, True])
def test_a_notebook_holds_a_bar_only_where_a_reader_runs_it(monkeypatch, reader):
    for name in ("ILBOOK_OUT", "JPY_SESSION_NAME", "VSCODE_PID", "VSCODE_CWD"):
        monkeypatch.delenv(name, raising=False)
    if reader:
        monkeypatch.setenv("JPY_SESSION_NAME", "page.ipynb")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CELL)])
    NotebookClient(notebook, kernel_name="python3", timeout=60).execute()
    kinds = [kind for output in notebook.cells[0].outputs for kind in output.get("data", {})]
    assert ("application/vnd.jupyter.widget-view+json" in kinds) is reader
    assert reader or notebook.cells[0].outputs == []
