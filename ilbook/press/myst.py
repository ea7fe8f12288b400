"""Turn the few MyST marks that our notebooks use into plain Markdown, for the stand-alone page of one notebook."""

import re
from pathlib import Path

from pybtex.database import Entry, parse_file

ROLE = re.compile(r"\{([a-z:]+)\}`([^`]+)`")
TARGET = re.compile(r"^\([\w-]+\)=\n", re.MULTILINE)
MATH_FENCE = re.compile(r"^```\{math\}\n(?::\w+:[^\n]*\n)*(.*?)^```$", re.DOTALL | re.MULTILINE)
DIRECTIVE = re.compile(r"^(:{3,}|`{3,})\{([a-z-]+)\}[ ]*([^\n]*)\n(.*?)^\1$", re.DOTALL | re.MULTILINE)
OPTION = re.compile(r"^:[\w-]+:.*\n?", re.MULTILINE)


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
    """`text` without MyST: citations by name and year, cross references by their text, notes as block quotes."""

    def role(match: re.Match) -> str:
        name, content = match.groups()
        if name.startswith("cite"):
            keys = [key.strip() for key in content.split(",")]
            names = "; ".join(known.get(key, key) for key in keys)
            return names if name == "cite:t" else f"({names})"
        if name == "math":
            return f"${content}$"
        return re.sub(r"\s*<[^>]*>$", "", content)

    def directive(match: re.Match) -> str:
        _, name, title, body = match.groups()
        label = title.strip() or name.replace("-", " ").capitalize()
        if name in ("dropdown", "toggle"):
            return f"<details><summary>{label}</summary>\n\n{OPTION.sub('', body).strip()}\n\n</details>\n"
        lines = [f"**{label}**", "", *OPTION.sub("", body).strip().splitlines()]
        return "\n".join(f"> {line}".rstrip() for line in lines) + "\n"

    text = TARGET.sub("", text)
    text = MATH_FENCE.sub(r"$$\n\1$$", text)
    return DIRECTIVE.sub(directive, ROLE.sub(role, text))
