"""A ring9 that a script has started: where it listens, and how it ends."""
import signal
import subprocess


class Server:
    """Its ready line was read, or it has ended without one. What it writes to stderr comes with its end."""

    def __init__(self, *command: str, **options):
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)
        line = self.process.stdout.readline()
        self.addresses = line.split()[2:] if line.startswith("ring9 ready ") else []
        self.address = self.addresses[0] if self.addresses else ""

    def end(self, by: int = signal.SIGTERM) -> tuple[int, str]:
        """Sends a signal. The exit code, and stderr."""
        self.process.send_signal(by)
        return self.ended()

    def ended(self) -> tuple[int, str]:
        """The exit code, and stderr, of one that ends by itself."""
        _, err = self.process.communicate(timeout=30)
        return self.process.returncode, err
