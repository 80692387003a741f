"""``zoo push``: put a saved model on the Hub."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from zoo_core.cli.tables import echo_json

if TYPE_CHECKING:
    from zoo_core.saved.pushing import Pushed


@click.command()
@click.argument(
    "folder", metavar="DIR", type=click.Path(path_type=Path, exists=True, file_okay=False)
)
@click.argument("repository", metavar="REPO")
@click.option("--private", is_flag=True, help="Make a new repository private.")
@click.option(
    "--branch", "--revision", metavar="NAME", help="Push to this branch.  [default: main]"
)
@click.option("--message", metavar="TEXT", help="Message of the commit.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def push(
    folder: Path,
    repository: str,
    private: bool,
    branch: str | None,
    message: str | None,
    as_json: bool,
) -> None:
    """Push the saved model in DIR to REPO, owner/name, on the Hugging Face Hub.

    The model is loaded first, so that nothing is pushed that cannot be. Its own files are pushed:
    README.md, config.json and model.safetensors. REPO is made if there is none.

    \b
    Examples:
      zoo push my-model me/my-model
      zoo push my-model me/my-model --private --message "Ten epochs"
    """
    from zoo_core.models import MultitaskModel
    from zoo_core.saved.pushing import MESSAGE, check_repository, push_folder, quiet

    check_repository(repository)
    model = MultitaskModel.from_pretrained(folder.absolute())
    _tell_licence(model.licence)
    with quiet():
        pushed = push_folder(
            folder, repository, private=private or None, branch=branch, message=message or MESSAGE
        )
    _tell_left_out(folder, pushed)
    if as_json:
        echo_json({**vars(pushed), "branch": branch or "main", "licence": model.licence})
    else:
        click.echo(pushed.url)


def _tell_licence(licence: str | None) -> None:
    from zoo_core.store.licences import is_non_commercial

    if licence is None:
        click.echo("zoo: the model's licence is not known, so the model card names none", err=True)
    elif is_non_commercial(licence):
        click.echo(f"zoo: the model may not be used commercially: {licence}", err=True)


def _tell_left_out(folder: Path, pushed: Pushed) -> None:
    if pushed.left_out:
        names = ", ".join(pushed.left_out)
        click.echo(f"zoo: left out of {folder}, being no files of a model: {names}", err=True)
