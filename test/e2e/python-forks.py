"""python-forks.py PROGRAM MODULE...: imports the modules once, then runs the program in a fork for each line of standard input.

A line is JSON: args, env, and the files that become standard input, output and error. The answer is the exit code, JSON on a line.
"""

import importlib
import json
import os
import runpy
import signal
import sys

# As runCommand of test/kit/node-process.ts.
SECONDS = 300


def run(program, request):
    files = ((request["stdin"], os.O_RDONLY), (request["stdout"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
             (request["stderr"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC))
    for number, (path, flags) in enumerate(files):
        opened = os.open(path, flags, 0o600)
        os.dup2(opened, number)
        os.close(opened)
    signal.alarm(SECONDS)
    # What was imported may have added to the environment (the AWS CLI: where its data are).
    os.environ.update(request["env"])
    sys.argv = [program, *request["args"]]
    # As the interpreter does: an uncaught error is told on standard error, by SystemExit with the code that it carries.
    runpy.run_path(program, run_name="__main__")


program, *modules = sys.argv[1:]
for name in modules:
    try:
        importlib.import_module(name)
    except ImportError:
        pass  # Another version of the program has other modules; it imports what it needs itself.
for line in iter(sys.stdin.readline, ""):
    child = os.fork()
    if child == 0:
        run(program, json.loads(line))
        sys.exit(0)
    _, status = os.waitpid(child, 0)
    print(json.dumps(os.waitstatus_to_exitcode(status)), flush=True)
