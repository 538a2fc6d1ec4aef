"""Words of an error as a table may print them: tables are published, and a machine's folders and names are nobody's business."""

import re
import socket

PATH = re.compile(r"(?<![\w.:/~])~?(?:/[^\s/:;,'\"()]+){2,}")
"""An absolute path of two parts or more; not a URL, nor the slash of "and/or"."""
ADDRESS = re.compile(r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?(?![\w.]*\d)")


def public(text: str) -> str:
    """The text with of every absolute path its last part, and without this machine's name and addresses of machines."""
    text = PATH.sub(lambda found: "…/" + found[0].rpartition("/")[2], text)
    text = ADDRESS.sub("(an address)", text)
    host = socket.gethostname()
    return re.sub(rf"(?<![\w.-]){re.escape(host)}(?![\w-])", "(this machine)", text) if len(host) > 3 else text
