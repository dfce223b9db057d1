"""The files in deploy/ and ray_cluster.yaml, against schemas of Ray, Kubernetes and KubeRay, and a simulated AWS."""

import contextlib
import http.server
import json
import os
import re
import secrets
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jsonschema
import psutil
import pytest
import yaml
from click import ClickException
from ray.autoscaler._private.util import prepare_config, validate_config

ROOT = Path(__file__).resolve().parent.parent
DEPLOY = ROOT / "deploy"
LOCAL_CLUSTER = DEPLOY / "ray_cluster.local.yaml"
WATCHER = DEPLOY / "drain_on_spot_notice.py"
RAY = re.search(r"^ray\[.*\]==(\S+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
JOB = yaml.safe_load_all((DEPLOY / "rayjob.yaml").read_text())
DOCUMENTS: dict[str, dict[str, Any]] = {document["kind"]: document for document in JOB}
SCHEMAS = {
    "NetworkPolicy": "io.k8s.api.networking.v1.NetworkPolicy",
    "PersistentVolumeClaim": "io.k8s.api.core.v1.PersistentVolumeClaim",
    "RayJob": "RayJob",
}
"""Kind -> its definition in tests/schemas/. Unknown fields are errors there."""


def validate(document: dict[str, Any]) -> None:
    """Raise `jsonschema.ValidationError` unless Kubernetes and KubeRay accept every field of a document."""
    definitions: dict[str, Any] = {}
    for name in ("kubernetes", "rayjob"):
        definitions |= json.loads((ROOT / "tests" / "schemas" / f"{name}.json").read_text())["$defs"]
    schema = {"$ref": f"#/$defs/{SCHEMAS[document['kind']]}", "$defs": definitions}
    jsonschema.Draft202012Validator(schema).validate(document)


def misspelt(document: Any) -> Iterator[tuple[str, Any]]:
    """Yield copies of a document, each with one field misspelt, and the misspelt name."""
    free = ("matchLabels", "requests", "limits", "labels", "rayStartParams")  # objects with any keys
    if isinstance(document, dict):
        for key, value in document.items():
            yield f"{key}x", {f"{k}x" if k == key else k: v for k, v in document.items()}
            if key not in free:
                for name, changed in misspelt(value):
                    yield name, document | {key: changed}
    elif isinstance(document, list):
        for index, value in enumerate(document):
            for name, changed in misspelt(value):
                yield name, [*document[:index], changed, *document[index + 1 :]]


@pytest.mark.parametrize("kind", SCHEMAS)
def test_kubernetes_accepts_the_job_and_refuses_each_field_misspelt(kind: str) -> None:
    validate(DOCUMENTS[kind])
    copies = list(misspelt(DOCUMENTS[kind]))
    assert len(copies) >= 8
    for name, copy in copies:
        with pytest.raises((jsonschema.ValidationError, KeyError), match=name.removesuffix("x")):
            validate(copy)


def test_the_job_on_kubernetes_has_the_token_no_root_and_the_folder_of_its_runs() -> None:
    job = DOCUMENTS["RayJob"]["spec"]
    cluster = job["rayClusterSpec"]
    assert RAY
    assert cluster["rayVersion"] == RAY[1]
    assert cluster["authOptions"] == {"mode": "token"}
    assert yaml.safe_load(job["runtimeEnvYAML"]) == {"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": "60"}}
    (group,) = cluster["workerGroupSpecs"]
    for pod in (cluster["headGroupSpec"]["template"]["spec"], group["template"]["spec"]):
        assert pod["securityContext"]["runAsNonRoot"]
        (container,) = pod["containers"]
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert job["entrypoint"].endswith(f"--runs {container['volumeMounts'][0]['mountPath']}")
        claim = pod["volumes"][0]["persistentVolumeClaim"]["claimName"]
        assert claim == DOCUMENTS["PersistentVolumeClaim"]["metadata"]["name"]
    assert f"--workers {group['replicas']} " in job["entrypoint"]
    assert DOCUMENTS["PersistentVolumeClaim"]["spec"]["accessModes"] == ["ReadWriteMany"]
    worker = group["template"]["spec"]
    (command,) = worker["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][2:]
    assert int(command.split()[-1]) < worker["terminationGracePeriodSeconds"]


def test_the_image_has_files_that_exist_the_pinned_ray_and_no_root() -> None:
    lines = [line for line in (DEPLOY / "Dockerfile").read_text().splitlines() if line and not line.startswith("#")]
    assert RAY
    assert f"FROM rayproject/ray:{RAY[1]}-py311-${{DEVICE}}" in lines
    assert lines[-1] == "USER 1000"
    assert not [line for line in lines if re.search(r"(?i)token|secret|password|^ADD|latest", line)]
    copied: set[str] = set()
    for line in lines:
        if line.startswith("COPY "):
            *sources, _ = line.split()[1:]
            for source in sources:
                found = {path.relative_to(ROOT).as_posix() for path in ROOT.glob(source)}
                assert found, source
                copied |= found
    # What travels with a job is in the image, too: tests/test_package.py.
    assert {Path(name).parts[0] for name in copied} == {"data", "models", "trainer", "requirements.txt"}
    assert not [name for name in copied if Path(name).suffix not in (".py", ".safetensors", ".gz", ".md", ".txt")]
    assert {"trainer/__main__.py", "trainer/reference.safetensors", "models/digit_reader.safetensors"} <= copied


def filled_in() -> dict[str, Any]:
    """Return the cluster of hosts with values for what is to be filled in."""
    config: dict[str, Any] = yaml.safe_load(LOCAL_CLUSTER.read_text())
    assert config["provider"] == {"type": "local", "head_ip": "FILL-IN", "worker_ips": ["FILL-IN"]}
    config["provider"] |= {"head_ip": "10.0.0.1", "worker_ips": ["10.0.0.2"]}
    config["auth"] = dict.fromkeys(config["auth"], "operator")
    assert "FILL-IN" not in str(config)
    return config


def test_ray_accepts_the_cluster_of_hosts_and_refuses_a_misspelt_one() -> None:
    validate_config(prepare_config(filled_in()))
    for name in filled_in():
        copy = {f"{key}x" if key == name else key: value for key, value in filled_in().items()}
        with pytest.raises((jsonschema.ValidationError, KeyError, SystemExit)):  # Ray exits where `provider` lacks
            validate_config(prepare_config(copy))
    copy = filled_in()
    copy["provider"]["head_ips"] = copy["provider"].pop("head_ip")
    with pytest.raises(ClickException, match="head_ip"):
        validate_config(prepare_config(copy))


def test_both_clusters_of_ray_are_set_up_alike() -> None:
    local, aws = filled_in(), yaml.safe_load((ROOT / "ray_cluster.yaml").read_text())
    assert local["head_start_ray_commands"] == aws["head_start_ray_commands"]
    assert local["worker_start_ray_commands"] == aws["worker_start_ray_commands"][:2]
    assert local["setup_commands"] == aws["setup_commands"]
    assert local["file_mounts"].items() <= aws["file_mounts"].items()
    assert local["docker"]["image"] == aws["docker"]["head_image"]
    for option in aws["docker"]["run_options"]:
        assert option in local["docker"]["run_options"]


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """The cluster of ray_cluster.yaml, filled in for a simulation of AWS on this machine."""
    import boto3
    from moto.server import ThreadedMotoServer

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))  # Ray writes a key into ~/.ssh
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    text = (ROOT / "ray_cluster.yaml").read_text()
    region = yaml.safe_load(text)["provider"]["region"]
    ec2, iam = boto3.client("ec2", region), boto3.client("iam", region)
    image = ec2.describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
    network = ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
    group = ec2.create_security_group(GroupName="own", Description="own", VpcId=network)["GroupId"]
    account = ""
    for name in ("digitforge-head", "digitforge-worker"):
        account = iam.create_instance_profile(InstanceProfileName=name)["InstanceProfile"]["Arn"].split(":")[4]
    text = text.replace("ami-FILL-IN", image).replace("sg-FILL-IN", group).replace("::FILL-IN:", f"::{account}:")
    assert "FILL-IN" not in "".join(line.partition("#")[0] for line in text.splitlines())
    yield yaml.safe_load(text)
    server.stop()


@pytest.mark.slow
def test_ray_launches_the_nodes_on_a_simulated_aws_with_what_the_file_says(aws: dict[str, Any]) -> None:
    import boto3
    from botocore.exceptions import ParamValidationError
    from ray.autoscaler._private.providers import _get_node_provider
    from ray.autoscaler.sdk import bootstrap_config

    config = bootstrap_config(aws, no_config_cache=True)
    provider = _get_node_provider(config["provider"], config["cluster_name"], use_cache=False)
    types = config["available_node_types"]
    for name, node_type in types.items():
        tags = {"ray-node-type": "head" if name == config["head_node_type"] else "worker", "ray-user-node-type": name}
        provider.create_node(node_type["node_config"], tags, 1)
    region = config["provider"]["region"]
    ec2, iam = boto3.client("ec2", region), boto3.client("iam", region)
    launched = [i for reservation in ec2.describe_instances()["Reservations"] for i in reservation["Instances"]]
    assert {
        (i["InstanceType"], i.get("InstanceLifecycle"), i["IamInstanceProfile"]["Arn"].split("/")[1]) for i in launched
    } == {
        ("m6i.large", None, "digitforge-head"),
        ("g4dn.xlarge", "spot", "digitforge-worker"),
        ("c6i.2xlarge", "spot", "digitforge-worker"),
    }
    (group,) = {group["GroupId"] for instance in launched for group in instance["SecurityGroups"]}
    (rules,) = ec2.describe_security_groups(GroupIds=[group])["SecurityGroups"]
    assert rules["IpPermissions"] == []  # Ray opened nothing, and made no role of its own
    assert iam.list_roles()["Roles"] == []
    assert types["gpu_worker"]["resources"] | {"GPU": 1, "CPU": 4} == types["gpu_worker"]["resources"]

    misspelt = types["cpu_worker"]["node_config"] | {"InstanceMarketOption": {"MarketType": "spot"}}
    with pytest.raises(ParamValidationError, match="InstanceMarketOption"):
        provider.create_node(misspelt, {"ray-node-type": "worker", "ray-user-node-type": "cpu_worker"}, 1)


@contextlib.contextmanager
def metadata_service(notice: dict[str, str]) -> Iterator[str]:
    """Serve the metadata of a machine on AWS and on Google's cloud; `notice` holds its path and text once there is one.

    Requests without the headers that both clouds require are refused.
    """

    class Handler(http.server.BaseHTTPRequestHandler):
        def answer(self, status: int, text: str = "") -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(text.encode())

        def do_PUT(self) -> None:
            ttl = self.headers.get("X-aws-ec2-metadata-token-ttl-seconds", "")
            known = self.path == "/latest/api/token" and ttl.isdigit()
            self.answer(200, "session") if known else self.answer(400)

        def do_GET(self) -> None:
            if self.path.startswith("/computeMetadata/"):
                refused = self.headers.get("Metadata-Flavor") != "Google"
            else:
                refused = self.headers.get("X-aws-ec2-metadata-token") != "session"
            if refused:
                self.answer(401)
            elif self.path in notice:
                self.answer(200, notice[self.path])
            else:
                self.answer(404)

        def log_message(self, *arguments: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


BUSY = """
import time, ray
from ray._private.state import state
ray.init()
@ray.remote(num_cpus=1)
class Training:
    def ready(self):
        return True
training = Training.remote()
assert ray.get(training.ready.remote())
print("ready", flush=True)
while not (nodes := state.get_draining_nodes()):
    time.sleep(0.1)
print(*nodes.values(), flush=True)
"""
"""A program that uses the node, which would otherwise end at once, and waits as Ray Train does until it is drained."""


@pytest.mark.slow
def test_a_spot_notice_drains_the_ray_node(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        with socket.socket() as first, socket.socket() as second:
            for free in (first, second):
                free.bind(("127.0.0.1", 0))
            port, client = first.getsockname()[1], second.getsockname()[1]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment["PATH"]])
        environment |= {"HOME": folder, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        start = ["ray", "start", "--head", f"--port={port}", f"--temp-dir={folder}/ray", "--num-cpus=1", "--block"]
        start += ["--include-dashboard=false", "--disable-usage-stats", f"--ray-client-server-port={client}"]
        log = tmp_path / "head.log"
        with log.open("w") as output:
            head = subprocess.Popen(start, env=environment, stdout=output, stderr=subprocess.STDOUT)
        processes: list[subprocess.Popen[Any]] = [head]
        try:
            deadline = time.monotonic() + 60
            while "Ray runtime started" not in log.read_text():
                assert head.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.2)
            environment["RAY_ADDRESS"] = f"127.0.0.1:{port}"
            notice: dict[str, str] = {}
            with metadata_service(notice) as url:
                command = [sys.executable, str(WATCHER), "aws", "--metadata", url, "--interval", "0.2"]
                watcher = subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE)
                processes.append(watcher)
                program = [sys.executable, "-c", BUSY]
                busy = subprocess.Popen(program, env=environment, text=True, stdout=subprocess.PIPE)
                processes.append(busy)
                assert busy.stdout
                assert busy.stdout.readline() == "ready\n"
                assert watcher.poll() is None
                end = datetime.now(UTC) + timedelta(seconds=120)
                when = end.strftime("%Y-%m-%dT%H:%M:%SZ")
                notice["/latest/meta-data/spot/instance-action"] = json.dumps({"action": "terminate", "time": when})
                printed, _ = watcher.communicate(timeout=60)
            assert watcher.returncode == 0
            assert re.fullmatch(r"this machine ends in 1[12]\d s; draining the Ray node\n", printed)
            milliseconds = int(busy.communicate(timeout=60)[0])
            assert abs(milliseconds / 1000 - end.timestamp()) < 15
        finally:
            for process in processes:
                with contextlib.suppress(psutil.NoSuchProcess):
                    for member in psutil.Process(process.pid).children(recursive=True):
                        member.kill()
                process.kill()
                process.wait()


def test_the_watcher_understands_googles_notice_and_survives_a_service_that_fails(tmp_path: Path) -> None:
    ray = tmp_path / "ray"  # records its arguments; the first call is refused
    ray.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\ntest "$(wc -l < {tmp_path}/calls)" -gt 1\n')
    ray.chmod(0o755)
    path = "/computeMetadata/v1/instance/preempted"
    notice = {path: "FALSE"}
    with metadata_service(notice) as url:
        command = [sys.executable, str(WATCHER), "gcp", "--metadata", url, "--interval", "0.1"]
        environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
        watcher = subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        del notice[path]  # the service answers 404
        assert watcher.stderr
        assert "cannot be asked for a notice: HTTP Error 404" in watcher.stderr.readline()
        notice[path] = "TRUE"
        printed, _ = watcher.communicate(timeout=30)
    assert watcher.returncode == 0
    assert printed.startswith("the metadata service answers again\nthis machine ends in 30 s")
    call = "drain-node --reason DRAIN_NODE_REASON_PREEMPTION --reason-message spot notice"
    call += " --deadline-remaining-seconds 30"
    assert (tmp_path / "calls").read_text().splitlines() == [call, call]


def test_the_spot_nodes_on_aws_run_the_watcher() -> None:
    cluster = yaml.safe_load((ROOT / "ray_cluster.yaml").read_text())
    (remote,) = (
        remote for remote, local in cluster["file_mounts"].items() if local == "deploy/drain_on_spot_notice.py"
    )
    started = [command for command in cluster["worker_start_ray_commands"] if Path(remote).name in command]
    assert len(started) == 1
    assert f"~/{Path(remote).relative_to('/home/ray')} aws " in started[0]
    assert started[0].endswith("&")
