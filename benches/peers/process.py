"""A peer's process: asked by lines, answering by lines of JSON, ended where an answer takes too long."""

import json
import queue
import subprocess
import tempfile
import threading
import time


class TooLong(Exception):
    """No answer within the limit."""


class Failed(Exception):
    """The process ended, or answered that it cannot."""


class Peer:
    """Started at the first question, and again after it was ended."""

    def __init__(self, name, command, limit):
        self.name, self.command, self.limit = name, command, limit
        self.process = None

    def start(self):
        self.errors = tempfile.TemporaryFile("w+")
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True
        )
        self.lines = queue.Queue()
        threading.Thread(target=self.listen, args=(self.process, self.lines), daemon=True).start()

    @staticmethod
    def listen(process, lines):
        for line in process.stdout:
            lines.put(line)
        lines.put(None)

    def age(self):
        """Seconds since the process was started."""
        return time.monotonic() - self.started

    def ask(self, question):
        if self.process is None:
            self.start()
        try:
            self.process.stdin.write(question + "\n")
            self.process.stdin.flush()
            line = self.lines.get(timeout=self.limit)
        except queue.Empty:
            self.end()
            raise TooLong from None
        except BrokenPipeError:
            line = None
        if line is None:
            self.errors.seek(0)
            tail = self.errors.read()[-2000:]
            self.end()
            raise Failed(f"{self.name} ended at '{question}': {tail}")
        answer = json.loads(line)
        if "error" in answer:
            raise Failed(f"{self.name} at '{question}': {answer['error']}")
        return answer

    def end(self):
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None
