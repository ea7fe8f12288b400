"""Turn the few MyST marks that our notebooks use into plain Markdown, for the stand-alone page of one notebook."""

import re
from pathlib import Path

ROLE = re.compile(r"\{([a-z:]+)\}`([^`]+)`")
TARGET = re.compile(r"^\([\w-]+\)=\n", re.MULTILINE)
MATH_FENCE = re.compile(r"^```\{math\}\n(?::\w+:[^\n]*\n)*(.*?)^```$", re.DOTALL | re.MULTILINE)
DIRECTIVE = re.compile(r"^(:{3,}|`{3,})\{([a-z-]+)\}[ ]*([^\n]*)\n(.*?)^\1$", re.DOTALL | re.MULTILINE)
OPTION = re.compile(r"^:[\w-]+:.*\n?", re.MULTILINE)
ENTRY = re.compile(r"@\w+\{\s*([^,\s]+)\s*,(.*?)\n\}", re.DOTALL)
FIELD = re.compile(r"(\w+)\s*=\s*[{\"](.*?)[}\"],?\s*(?:\n|$)", re.DOTALL)


def references(bibliography: Path) -> dict[str, dict[str, str]]:
    """Fields of each entry of a .bib file by its key; nothing when the file is missing."""
    if not bibliography.exists():
        return {}
    found = {}
    for key, body in ENTRY.findall(bibliography.read_text(encoding="utf-8")):
        fields = FIELD.findall(body)
        found[key] = {name.lower(): re.sub(r"[{}]|\s+(?=\s)", "", value).strip() for name, value in fields}
    return found


def plain(text: str, known: dict[str, dict[str, str]]) -> str:
    """`text` without MyST: citations by name and year, cross references by their text, notes as block quotes."""

    def role(match: re.Match) -> str:
        name, content = match.groups()
        if name.startswith("cite"):
            keys = [key.strip() for key in content.split(",")]
            names = "; ".join(_short(known.get(key, {}), key) for key in keys)
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


def _authors(entry: dict[str, str]) -> list[str]:
    """Family names of an entry's authors, whether written "Given Family" or "Family, Given"."""
    names = [name.strip() for name in re.split(r"\s+and\s+", entry.get("author", "")) if name.strip()]
    return [name.split(",")[0] if "," in name else name.split()[-1] for name in names]


def _short(entry: dict[str, str], key: str) -> str:
    names = _authors(entry)
    if not names:
        return key
    who = " and ".join(names) if len(names) < 3 else f"{names[0]} et al."
    return f"{who}, {entry['year']}" if "year" in entry else who
