"""Drain this Ray node when its cloud announces that it takes the machine away: `drain_on_spot_notice.py aws` or `gcp`.

Run it on a spot or preemptible node, beside Ray. It asks the machine's metadata service every few seconds. After a
notice it calls `ray drain-node`, so that trainings store a checkpoint and leave the node. It ends when Ray has accepted
that. It needs Python and Ray's command line, nothing of this project.
"""

import argparse
import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime

METADATA = {"aws": "http://169.254.169.254", "gcp": "http://metadata.google.internal"}
"""Cloud -> URL of its metadata service."""
SECONDS_TO_ANSWER = 2
GCP_NOTICE_SECONDS = 30
"""Seconds between Google's notice and the end of the machine."""


def aws_seconds_left(metadata: str) -> float | None:
    """Return the seconds until AWS stops or terminates this instance, or None if it has announced nothing.

    Documented in "Spot Instance interruption notices" and "Use IMDSv2" of the EC2 User Guide.
    """
    token = _ask(f"{metadata}/latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": "60"}, "PUT")
    try:
        notice = _ask(f"{metadata}/latest/meta-data/spot/instance-action", {"X-aws-ec2-metadata-token": token})
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return None
        raise
    end = datetime.fromisoformat(json.loads(notice)["time"])
    return (end - datetime.now(UTC)).total_seconds()


def gcp_seconds_left(metadata: str) -> float | None:
    """Return the seconds until Google preempts this machine, or None if it has announced nothing.

    Documented in "Preemptible VM instances" of the Compute Engine documentation.
    """
    answer = _ask(f"{metadata}/computeMetadata/v1/instance/preempted", {"Metadata-Flavor": "Google"})
    return GCP_NOTICE_SECONDS if answer == "TRUE" else None


def _ask(url: str, headers: dict[str, str], method: str = "GET") -> str:
    request = urllib.request.Request(url, headers=headers, method=method)
    with urllib.request.urlopen(request, timeout=SECONDS_TO_ANSWER) as answer:
        return str(answer.read().decode().strip())


def drain(seconds: float) -> bool:
    """Tell Ray that this node ends in so many seconds; return whether Ray has accepted that."""
    command = ["ray", "drain-node", "--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "spot notice"]
    command += ["--deadline-remaining-seconds", str(max(0, int(seconds)))]
    return subprocess.run(command).returncode == 0


def watch(seconds_left: Callable[[str], float | None], metadata: str, interval: float) -> None:
    """Ask for a notice every `interval` seconds; return when there was one and Ray has accepted it."""
    problem = ""
    while True:
        try:
            seconds = seconds_left(metadata)
            if problem:
                print("the metadata service answers again", flush=True)
            problem = ""
        except (OSError, ValueError, KeyError) as error:  # keep asking: the service may fail for a moment
            seconds = None
            if str(error) != problem:
                problem = str(error)
                print(f"{metadata} cannot be asked for a notice: {problem}", file=sys.stderr, flush=True)
        if seconds is not None:
            print(f"this machine ends in {seconds:.0f} s; draining the Ray node", flush=True)
            if drain(seconds):
                return
        time.sleep(interval)


def main() -> None:
    """Watch until a notice has been passed on."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cloud", choices=METADATA)
    parser.add_argument("--metadata", metavar="URL", help="the metadata service (default: the cloud's)")
    parser.add_argument("--interval", type=float, default=5, help="seconds between two questions (default: 5)")
    options = parser.parse_args()
    ask = {"aws": aws_seconds_left, "gcp": gcp_seconds_left}[options.cloud]
    watch(ask, options.metadata or METADATA[options.cloud], options.interval)


if __name__ == "__main__":
    main()
