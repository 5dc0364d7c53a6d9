"""The tasks of a recipe, each under a name of its own."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from eval.recipe import LocalTask
from eval.tasks import HUB, Reading, Task, load_task, plain_name
from foils.errors import UserError


def load_tasks(references: Sequence[str | LocalTask], reading: Reading) -> list[Task]:
    """Makes the tasks that a recipe names, in its order.

    Folders and data sets that share a name have that of their parent folder or owner put before it, since results,
    cards and reports know a task by its name.

    Raises:
        UserError: two tasks have the same name even so, or see `load_task`.
    """
    names = [plain_name(reference) for reference in references]
    counts = Counter(name.casefold() for name in names)
    names = [
        f"{_parent(reference)}-{name}" if counts[name.casefold()] > 1 and _may_be_renamed(reference) else name
        for reference, name in zip(references, names, strict=True)
    ]
    twice = [name for name, count in Counter(name.casefold() for name in names).items() if count > 1]
    if twice:
        raise UserError(
            f"recipe: tasks: two of them are called {twice[0]!r}; name each once, and folders by "
            '{ name = "...", corpus = "FOLDER", questions = "FOLDER" }'
        )
    return [load_task(reference, reading, name) for reference, name in zip(references, names, strict=True)]


def _may_be_renamed(reference: str | LocalTask) -> bool:
    return isinstance(reference, str) and (Path(reference).is_dir() or HUB.fullmatch(reference) is not None)


def _parent(reference: str | LocalTask) -> str:
    path = str(reference)
    return Path(path).resolve().parent.name if Path(path).is_dir() else path.partition("/")[0]
