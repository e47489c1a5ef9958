"""Makes the pages of the tools: one file each, with nothing from elsewhere."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jinja2

from stages.lib.charts import percent
from stages.lib.files import replacing
from stages.lib.hashing import fingerprint
from stages.lib.overrides import Overrides
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


def decision_content(page: str, image_ids: Iterable[str], overrides: Overrides) -> dict[str, Any]:
    """Return what decisions.html takes: where the browser keeps what is decided, and what
    overrides.csv holds already.

    storage: a name that only this page of this data set has, for the browser may keep all pages
    that were opened from files in one place. decided: one text for each line of overrides.csv.
    """
    single = {"keep": overrides.keep, "drop": overrides.drop, "relabel": overrides.relabel}
    lines = [f"{action},{image_id}" for action, ids in single.items() for image_id in sorted(ids)]
    lines += [",".join(("not_duplicate", *pair)) for pair in sorted(overrides.not_duplicate)]
    return {"storage": f"leakproof {page} {fingerprint(set(image_ids))}", "decided": lines}
