"""`chat-server completion`."""

import click
from click.shell_completion import get_completion_class

VARIABLE = "_CHAT_SERVER_COMPLETE"
"""The variable by which the script asks for completions. Click has chosen the name."""


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script that lets SHELL complete commands and options.

    In ~/.bashrc or ~/.zshrc: eval "$(chat-server completion bash)", or zsh in its place. In
    ~/.config/fish/config.fish: chat-server completion fish | source
    """
    root = context.find_root()
    kind = get_completion_class(shell)
    assert kind is not None  # noqa: S101  (the choice names those that there are)
    click.echo(kind(root.command, {}, root.info_name or "chat-server", VARIABLE).source())
