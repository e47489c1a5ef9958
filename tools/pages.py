"""Makes the pages of the tools: one file each, with nothing from elsewhere."""

from pathlib import Path
from typing import Any

import jinja2

from stages.lib.charts import percent
from stages.lib.files import replacing
from tools.curves import line_style

TEMPLATES = Path(__file__).parent / "templates"


def write_page(path: Path, template: str, **content: Any) -> None:
    """Write the page; everything in it is escaped, for labels and names come from anywhere."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = percent
    environment.filters["line_style"] = line_style
    text = environment.get_template(template).render(**content) + "\n"
    with replacing(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8", newline="\n")
