"""Python's own documentation as a corpus: several thousand real passages, no download.

The passages are the docstrings of the standard library's public modules, classes, functions and methods,
and the language reference's topics (`pydoc_data.topics`). They are read from an interpreter of the running version, so
the corpus differs a little between Python versions; the ids are the qualified names and do not.
"""

import importlib
import inspect
import json
import logging
import platform
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pydoc_data.topics import topics
from types import ModuleType

from foils.provenance import ROOT
from foils.texts import normalised

logger = logging.getLogger(__name__)

# Named one by one: importing *all* of the standard library opens browsers (`antigravity`), needs a display
# (`turtle`) or a platform (`winreg`), and modules that newer versions removed would change the corpus.
MODULES = tuple(
    """
    abc argparse array ast asyncio atexit base64 bdb binascii bisect builtins bz2 cProfile calendar cmath cmd
    code codecs codeop collections collections.abc colorsys compileall concurrent.futures configparser
    contextlib contextvars copy copyreg csv ctypes dataclasses datetime decimal difflib dis doctest email
    email.header email.headerregistry email.message email.mime.text email.parser email.policy email.utils enum
    errno faulthandler fcntl filecmp fileinput fnmatch fractions ftplib functools gc getopt getpass gettext glob
    graphlib grp gzip hashlib heapq hmac html html.parser http http.client http.cookiejar http.cookies
    http.server imaplib importlib importlib.abc importlib.machinery importlib.metadata importlib.resources
    importlib.util inspect io ipaddress itertools json json.decoder json.encoder keyword linecache locale
    logging logging.config logging.handlers lzma mailbox marshal math mimetypes mmap modulefinder
    multiprocessing multiprocessing.connection multiprocessing.managers multiprocessing.pool
    multiprocessing.queues multiprocessing.shared_memory netrc numbers operator optparse os os.path pathlib pdb
    pickle pickletools pkgutil platform plistlib poplib pprint profile pstats pty pwd py_compile pyclbr pydoc
    queue quopri random re reprlib resource rlcompleter runpy sched secrets select selectors shelve shlex shutil
    signal site smtplib socket socketserver sqlite3 ssl stat statistics string stringprep struct subprocess
    symtable sys sysconfig syslog tabnanny tarfile tempfile termios textwrap threading time timeit token
    tokenize trace traceback tracemalloc tty types typing unicodedata unittest unittest.case unittest.loader
    unittest.mock unittest.runner unittest.suite urllib.error urllib.parse urllib.request urllib.response
    urllib.robotparser uuid venv warnings wave weakref webbrowser wsgiref.handlers wsgiref.headers
    wsgiref.simple_server wsgiref.util xml.dom xml.dom.minidom xml.dom.pulldom xml.etree.ElementTree xml.sax
    xml.sax.handler xml.sax.saxutils xml.sax.xmlreader xmlrpc.client xmlrpc.server zipapp zipfile zipimport zlib
    zoneinfo
    """.split()  # noqa: SIM905
)

CHUNK_CHARS = 1200
"""Longer texts are cut at paragraph ends into passages of at most about this many characters."""


def revision() -> str:
    """What the passages depend on: the interpreter's version, such as `python-3.11.7`."""
    return f"python-{platform.python_version()}"


def passages() -> Iterator[dict[str, str]]:
    """Yields `{"_id", "title", "text"}` in a fixed order, every id once, and what several names share under the first.

    Many names are other names of one function, or repeat what a base class says: no query could choose between them.
    """
    ids: set[str] = set()
    texts: set[str] = set()
    for name, text in [*_docstrings_of_a_fresh_interpreter(), *_topics()]:
        for number, chunk in enumerate(_chunks(text), start=1):
            passage_id = name if number == 1 else f"{name}#{number}"
            said = normalised(chunk)
            if passage_id not in ids and said not in texts:
                ids.add(passage_id)
                texts.add(said)
                yield {"_id": passage_id, "title": name.removeprefix("topic:"), "text": chunk}


def _docstrings_of_a_fresh_interpreter() -> list[tuple[str, str]]:
    """The docstrings without those that libraries put into the standard library, as transformers does in `logging`.

    This file is run by its path there: importing its package would load such libraries.
    """
    code = f"import runpy; runpy.run_path({__file__!r}, run_name='__main__')"
    finished = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    for line in finished.stderr.splitlines():
        logger.info(line)
    found: list[tuple[str, str]] = json.loads(finished.stdout)
    return found


def docstrings() -> Iterator[tuple[str, str]]:
    """Yields qualified names and docstrings, as this interpreter has them."""
    for module_name in MODULES:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                module = importlib.import_module(module_name)
        except ImportError:  # some builds and platforms lack e.g. sqlite3 or termios
            logger.info("module %s is not in this interpreter: its passages are left out", module_name)
            continue
        if documentation := inspect.getdoc(module):
            yield module_name, documentation
        prefix = "" if module_name == "builtins" else f"{module_name}."
        for name, member in _public_members(module):
            yield from _own_docstrings(f"{prefix}{name}", member)


def _public_members(module: ModuleType) -> Iterator[tuple[str, object]]:
    """The classes and functions that a module declares as its own: `__all__`, else by `__module__`."""
    declared = getattr(module, "__all__", None)
    for name in sorted(declared or vars(module)):
        member = getattr(module, name, None)
        own = declared is not None or getattr(member, "__module__", None) == module.__name__
        if own and not name.startswith("_") and (inspect.isclass(member) or inspect.isroutine(member)):
            yield name, member


def _own_docstrings(name: str, member: object) -> Iterator[tuple[str, str]]:
    """A class or function's docstring, then those of a class's methods and properties; inherited ones left out."""
    if isinstance(documentation := getattr(member, "__doc__", None), str):
        yield name, inspect.cleandoc(documentation)
    if not inspect.isclass(member):
        return
    for attribute, value in sorted(vars(member).items()):
        if attribute.startswith("_") or not (inspect.isroutine(value) or isinstance(value, property)):
            continue
        if isinstance(documentation := getattr(value, "__doc__", None), str):
            yield f"{name}.{attribute}", inspect.cleandoc(documentation)


def _topics() -> Iterator[tuple[str, str]]:
    for topic, text in sorted(topics.items()):
        yield f"topic:{topic}", text.strip()


def _chunks(text: str) -> list[str]:
    r"""Cuts a text at paragraph ends into pieces of at most about `CHUNK_CHARS` characters.

    >>> _chunks("one" + chr(10) * 2 + "two")
    ['one\n\ntwo']
    """
    chunks: list[str] = []
    for paragraph in re.split(r"\n\s*\n", text):
        if chunks and len(chunks[-1]) + len(paragraph) < CHUNK_CHARS:
            chunks[-1] += "\n\n" + paragraph
        else:
            chunks.append(paragraph)
    return [chunk.strip() for chunk in chunks if chunk.strip()]


if __name__ == "__main__":
    logging.basicConfig(level="INFO", format="%(message)s")
    print(json.dumps([*docstrings()]))
