"""``gyrus recipes``: the configs that come with Gyrus."""

from __future__ import annotations

from gyrus.cli.display import console, table


def recipes() -> None:
    """List the configs that come with Gyrus."""
    from gyrus.configuration import read_document
    from gyrus.experiment import recipes as find

    documents = {name: read_document(path) for name, path in find().items()}
    rows = [
        [name, document.get("model", {}).get("name", ""), document["about"]["title"]]
        for name, document in documents.items()
    ]
    console.print(table(["recipe", "model", "about"], rows))
