"""``zoo doctor``: what is wrong with this installation, and what mends it."""

from __future__ import annotations

from dataclasses import asdict

import click

from zoo_core.cli.catalogue import json_option
from zoo_core.cli.tables import echo_json, echo_table


@click.command()
@json_option
@click.pass_context
def doctor(ctx: click.Context, as_json: bool) -> None:
    """Find what is wrong with this installation, and say what mends it.

    Looked at are Python and the versions of what is installed, plugins, names, registry files, the
    cache of weights, the Hub, and what models can run on. It works where torch or a plugin is
    broken. The exit code is 1 if there is a problem; notes tell of what works otherwise than one
    may expect.

    \b
    Examples:
      zoo doctor
      HF_HUB_OFFLINE=1 zoo doctor --json
    """
    from zoo_core.doctor import examine
    from zoo_core.doctor.finding import summary

    findings = list(examine())
    if as_json:
        echo_json([asdict(finding) for finding in findings])
    else:
        header = ["state", "about", "found", "what mends it"]
        echo_table(header, [[f.level, f.about, f.found, f.remedy] for f in findings])
        click.echo(f"\n{summary(findings)}")
    if any(finding.level == "problem" for finding in findings):
        ctx.exit(1)
