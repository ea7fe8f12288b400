"""Turn the few MyST marks that our notebooks use into plain Markdown, for the stand-alone page of one notebook."""

import re
from pathlib import Path

from pybtex.database import Entry, parse_file

ROLE = re.compile(r"\{([a-z:]+)\}`([^`]+)`")
MATH_FENCE = re.compile(r"^```\{math\}\n(?::\w+:[^\n]*\n)*(.*?)^```$", re.DOTALL | re.MULTILINE)


def references(bibliography: Path) -> dict[str, str]:
    """How each entry of a .bib file is cited in the text, "Doe and Roe, 2020", by its key; nothing without a file."""
    entries = parse_file(bibliography).entries if bibliography.exists() else {}
    return {key: _short(entry) for key, entry in entries.items()}


def _short(entry: Entry) -> str:
    people = entry.persons.get("author", [])
    names = [re.sub("[{}]", "", " ".join(person.prelast_names + person.last_names)) for person in people]
    who = " and ".join(names) if len(names) < 3 else f"{names[0]} et al."
    return ", ".join(filter(None, [who, entry.fields.get("year")])) or entry.key


def plain(text: str, known: dict[str, str]) -> str:
    """`text` without MyST: citations by name and year, cross references by their text, formulas between dollars."""

    def role(match: re.Match) -> str:
        name, content = match.groups()
        if not name.startswith("cite"):
            return re.sub(r"\s*<[^>]*>$", "", content)
        names = "; ".join(known.get(key.strip(), key.strip()) for key in content.split(","))
        return names if name == "cite:t" else f"({names})"

    return ROLE.sub(role, MATH_FENCE.sub(r"$$\n\1$$", text))
