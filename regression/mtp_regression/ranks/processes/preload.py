"""Imports, in the fork server, the modules that every rank needs; nothing else may import this module.

`multiprocessing.forkserver` can do it by itself, but with another `sys.path` (CPython 3.12 passes that of the
caller and does not use it), with the modules' output on the terminal, and silently if a module is missing.
Here the output goes to a file of the caller's, and a failed import ends the server, so that the caller
notices and shows the file.
"""

import atexit
import faulthandler
import gc
import importlib
import json
import os
import sys
import traceback

request = json.loads(os.environ.pop("MTP_PRELOAD"))
log = os.open(request["log"], os.O_WRONLY | os.O_TRUNC | os.O_APPEND)
os.dup2(log, 1)
os.dup2(log, 2)
os.close(log)
faulthandler.enable()
sys.path[:] = request["path"]
gc.disable()  # to look for garbage among what an import makes, and keeps, is a fifth of its time
for module in request["modules"]:
    try:
        importlib.import_module(module)
    except BaseException as error:
        # Of a name that is misspelt, frames of the import tell nothing.
        absent = isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(f"{error.name}.")
        print(error) if absent else traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1)
gc.freeze()  # nor do ranks look there
gc.enable()
atexit.register(os._exit, 0)  # to free what was imported takes seconds, in which the server would linger
