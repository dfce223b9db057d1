"""Ray Train as this project uses it: one group of workers after another, until the training ends.

Ray Train starts the workers, watches them and starts them again. This module decides what a failure means, and says so
in one line. Checkpoints are not reported to Ray: the workers store them (`trainer.checkpoint_writer`) and look for the
newest one when they start.
"""

import asyncio
import os
import re
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, cast

import ray
from ray._private.state import state as cluster_state
from ray.exceptions import RayActorError
from ray.train.backend import Backend, BackendConfig
from ray.train.v2._internal.callbacks.accelerators import AcceleratorSetupCallback
from ray.train.v2._internal.callbacks.backend_setup import BackendSetupCallback
from ray.train.v2._internal.exceptions import (
    InsufficientClusterResourcesError,
    WorkerGroupStartupFailedError,
    WorkerGroupStartupTimeoutError,
    WorkerHealthCheckFailedError,
    WorkerHealthCheckTimeoutError,
)
from ray.train.v2._internal.execution.callback import WorkerGroupCallback
from ray.train.v2._internal.execution.controller import TrainController
from ray.train.v2._internal.execution.failure_handling import FailureDecision, FailurePolicy
from ray.train.v2._internal.execution.scaling_policy import (
    FixedScalingPolicy,
    NoopDecision,
    ResizeDecision,
    ScalingDecision,
)
from ray.train.v2._internal.execution.scaling_policy.elastic import ElasticScalingPolicy
from ray.train.v2._internal.execution.worker_group import WorkerGroup, state, worker_group
from ray.train.v2.api.config import FailureConfig, RunConfig, ScalingConfig
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer
from ray.train.v2.api.exceptions import ControllerError, PreemptionError, TrainingFailedError, WorkerGroupError
from ray.train.v2.api.result import Result

from trainer.cluster import MAX_CPUS, MAX_GPUS, Resources, address_of_cluster
from trainer.endings import LeavingError, NotFiniteError, ResumeError, StorageFailedError, UnfitError
from trainer.lease import LeaseLostError
from trainer.order import Order
from trainer.run_store import Run, RunStoreError

MAX_FAILURES = 3
"""How often a group may fail without progress, before the training ends."""
JOIN_SECONDS = 40
"""Seconds to wait for nodes that may still join a cluster without an autoscaler."""
START_MINUTES = 30
"""Minutes to wait for resources that the cluster may get: from its autoscaler, or of a node that was lost."""
FINAL_ERRORS = (NotFiniteError, StorageFailedError, LeaseLostError, ResumeError, UnfitError)
"""Errors of a worker after which another group would fail in the same way."""

GROWTH = {"GPU": MAX_GPUS, "CPU": MAX_CPUS}
HANG_SECONDS = 20
"""Seconds without an answer after which a worker counts as hung."""
START_TIMEOUT = 20
"""Seconds of one wait for resources."""

SETTINGS = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",  # Ray's default is 2
    "RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S": str(HANG_SECONDS),  # default: 600
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": str(START_TIMEOUT),  # default: 60
    "RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S": "1",  # default: 5
    "RAY_TRAIN_ENABLE_CONTROLLER_STRUCTURED_LOGGING": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
}
"""Environment variables that Ray Train's controller reads."""


Send = Callable[..., None]
"""Sends an event, given its name and values by name; see `trainer.driver`."""


class NoActor:
    """Stands in for the actor behind `ray.train.report`, which nobody calls here; it would take seconds to start."""

    @classmethod
    def options(cls, **options: Any) -> type["NoActor"]:
        """Return the class itself."""
        return cls

    @staticmethod
    def remote(**arguments: Any) -> str:
        """Return a text in place of the actor."""
        return "no actor"


def run(order: Order, resources: Resources, send: Send) -> None:
    """Train in the cluster that this process is connected to, and send events."""
    os.environ |= SETTINGS
    vars(worker_group)["SynchronizationActor"] = NoActor
    vars(state)["_shutdown_sync_actor"] = lambda actor: None
    is_own = not address_of_cluster()
    if is_own:
        os.environ["RAY_TRAIN_ENABLE_PREEMPTION_WATCHER"] = "0"
    with tempfile.TemporaryDirectory() as folder:
        try:
            result = Trainer(order, resources, send, is_own, folder).fit()
        except TrainingFailedError as error:
            send("failed", message=words_of(error, resources))
        else:
            send("end", **cast(Any, result).return_value)


def logs_of_ray() -> str:
    """Return the folder of Ray's logs on this machine."""
    node: Any = ray._private.worker._global_node
    return str(node.get_logs_dir_path())


def wait_for_death_of_ray() -> None:
    """Return when the GCS or the raylet that this process has started has ended. Ray itself notices later."""
    node: Any = ray._private.worker._global_node
    processes = [info.process for name in ("gcs_server", "raylet") for info in node.all_processes.get(name, [])]
    while all(process.poll() is None for process in processes):
        time.sleep(0.5)


def disconnect() -> None:
    """Disconnect from the cluster; one of our own ends."""
    ray.shutdown()


# The next three functions run on workers. They import PyTorch there, which this process need not do.


def train_on_worker(arguments: dict[str, Any]) -> dict[str, Any] | None:
    """Train on a worker; see `trainer.ray_worker`."""
    from trainer import ray_worker

    return ray_worker.train_on_worker(**arguments)


def invite() -> Any:
    """Return where the workers meet, as rank 0."""
    from trainer import ray_worker

    return ray_worker.invite()


def join(*arguments: Any) -> None:
    """Join the process group of the workers."""
    from trainer import ray_worker

    ray_worker.join(*arguments)


class Trainer(DataParallelTrainer):
    """Ray Train with its controller in this process, and with our policies for failures and sizes.

    In an actor of its own, as Ray has it, the controller takes seconds to start, and its death leaves placement groups
    behind that keep the resources of the workers.
    """

    def __init__(self, order: Order, resources: Resources, send: Send, is_own: bool, folder: str) -> None:
        self.order, self.resources, self.send, self.is_own = order, resources, send, is_own
        self.run = order.open_run()
        self.leave = Leave(self.run, order.launch_id)
        workers = (resources.min_workers, resources.workers) if resources.min_workers else resources.workers
        self.size = ScalingConfig(
            num_workers=workers,
            use_gpu=resources.gpu,
            resources_per_worker=resources.per_worker,
            elastic_resize_monitor_interval_s=15.0,
        )
        super().__init__(
            train_on_worker,
            train_loop_config={"order": order, "threads": resources.cpus_per_worker},
            backend_config=ProcessGroup("nccl" if resources.gpu else "gloo"),
            scaling_config=self.size,
            # Type checkers find another class. Nothing is stored in this folder.
            run_config=RunConfig(name=order.name, storage_path=folder),  # type: ignore[arg-type]
        )

    def _create_default_callbacks(self) -> list[Any]:
        # Without those for Ray Data, metrics and the placement groups of a dead controller, which start actors.
        accelerators = AcceleratorSetupCallback(self.backend_config, self.size)
        return [accelerators, BackendSetupCallback(self.backend_config), Watch(self.leave, self.send)]

    def _initialize_and_run_controller(self, **arguments: Any) -> Result:
        arguments["failure_policy"] = Failures(self.run, self.resources, self.send)
        if self.is_own:
            arguments["scaling_policy"] = SizeOfOwn(self.size)
        elif self.resources.min_workers:
            arguments["scaling_policy"] = ElasticSize(self.size, self.leave, self.resources, self.send)
        controller = Controller(**arguments)
        asyncio.run(controller.run())  # type: ignore[no-untyped-call]
        return controller.get_result()


class Workers(WorkerGroup):
    """Ray's group of workers, whose controller is no actor."""

    def _init_train_context_on_workers(self, workers: Any, sync_actor: Any, train_context_args: Any) -> None:
        arguments = [{name: values[i] for name, values in train_context_args.items()} for i in range(len(workers))]
        ray.get(
            [
                worker.actor.init_train_context.remote(
                    train_run_context=self._train_run_context,
                    distributed_context=worker.distributed_context,
                    synchronization_actor=sync_actor,
                    storage_context=self._storage_context,
                    worker_callbacks=self._worker_callbacks_to_propagate,
                    controller_actor=None,
                    **arguments[i],
                )
                for i, worker in enumerate(workers)
            ]
        )

    @staticmethod
    def _get_worker_runtime_env(custom_runtime_env: Any) -> Any:
        # Ray would add the controller's settings. Then it could not use the processes that it has started already.
        return custom_runtime_env


class Controller(TrainController):
    """Ray Train's controller with our group of workers."""

    worker_group_cls = Workers


class ProcessGroup(BackendConfig):
    """The process group of the workers, over this backend of PyTorch."""

    def __init__(self, backend: str) -> None:
        self.backend = backend

    @property
    def backend_cls(self) -> type[Backend]:
        """The class that starts it."""
        return ProcessGroupBackend


class ProcessGroupBackend(Backend):
    """Lets the workers join their process group."""

    def on_start(self, worker_group: Any, backend_config: BackendConfig) -> None:
        """Let all workers join, in processes that have just started."""
        backend = cast(ProcessGroup, backend_config).backend
        meeting, count = worker_group.execute_single(0, invite), len(worker_group)
        arguments = [(join, meeting, rank, count, backend) for rank in range(count)]
        ray.get([worker_group.execute_single_async(rank, *arguments[rank]) for rank in range(count)])


class Leave:
    """The request that the workers leave after a checkpoint, so that others take over."""

    def __init__(self, run: Run, launch_id: str) -> None:
        self.run, self.launch_id = run, launch_id
        self.is_asked = False

    def ask(self) -> None:
        """Ask the workers to leave, once. If the request cannot be stored, the next call tries again."""
        if not self.is_asked:
            with suppress(RunStoreError):
                self.run.request_stop(self.launch_id, "leave")
                self.is_asked = True

    def withdraw(self) -> None:
        """Withdraw the request, so that new workers stay."""
        self.is_asked = False
        while True:
            try:
                self.run.withdraw_leave(self.launch_id)
                return
            except RunStoreError:  # the storage does not answer: new workers could not read their checkpoint either
                time.sleep(1)


class Watch(WorkerGroupCallback):
    """Sends an event for each group that starts, and lets the workers leave when a node is about to be taken away."""

    def __init__(self, leave: Leave, send: Send) -> None:
        self.leave, self.send = leave, send

    def before_worker_group_start(self, worker_group_context: Any) -> None:
        """Withdraw the request with which the last group has left."""
        self.leave.withdraw()

    def after_worker_group_training_start(self, worker_group: WorkerGroup) -> None:
        """Send the event `group`."""
        self.send("group", workers=len(worker_group))

    def after_worker_group_poll_status(self, worker_group_status: Any) -> None:
        """Ask the workers to leave after a checkpoint, if one of their nodes is about to be taken away."""
        if worker_group_status.get_preemption_info():
            self.leave.ask()


class SizeOfOwn(FixedScalingPolicy):
    """A fixed number of workers in a cluster that has room for them and no autoscaler to tell."""

    def after_controller_start(self, train_run_context: Any) -> None:
        """Tell nobody."""

    def _maybe_send_resource_request(self) -> None:
        pass


class ElasticSize(ElasticScalingPolicy):
    """As many workers as the cluster has room for. Before their number grows, the workers store a checkpoint."""

    def __init__(self, size: ScalingConfig, leave: Leave, resources: Resources, send: Send) -> None:
        super().__init__(size)
        self.leave, self.resources, self.send = leave, resources, send
        self.has_trained = False
        self.waiting_since: float | None = None

    def make_decision_for_non_running_worker_group(self) -> ScalingDecision:
        """Start as many workers as there is room for; raise an error if there is too little for too long."""
        decision = super().make_decision_for_non_running_worker_group()
        if not isinstance(decision, NoopDecision):
            self.waiting_since = None
            return decision
        if self.waiting_since is None:
            self.waiting_since = time.monotonic()
            self.send("waiting", message=lack_of(self.resources))
        elif time.monotonic() - self.waiting_since > patience(self.resources, self.has_trained):
            raise WorkerGroupStartupTimeoutError(self.resources.min_workers)
        time.sleep(0.5)
        return decision

    def make_decision_for_running_worker_group(
        self, worker_group_state: Any, worker_group_status: Any
    ) -> ScalingDecision:
        """Never end running workers: ask them to leave, if their number can change."""
        self.has_trained = True
        decision = super().make_decision_for_running_worker_group(worker_group_state, worker_group_status)
        if isinstance(decision, ResizeDecision):
            self.leave.ask()
        return NoopDecision()


class Failures(FailurePolicy):
    """Decides whether another group starts after a failure, and says what has happened."""

    def __init__(self, run: Run, resources: Resources, send: Send) -> None:
        super().__init__(FailureConfig())
        self.run, self.resources, self.send = run, resources, send
        self.failures = 0
        """Number of failures since the training last got further than before."""
        self.furthest_step = -1
        self.waiting_since: float | None = None

    def make_decision(self, training_failed_error: TrainingFailedError) -> FailureDecision:
        """Return RETRY if another group is to start, else RAISE."""
        error = training_failed_error
        if self._lacks_resources(error):
            return self._decide_to_wait()
        self.waiting_since = None
        if any(isinstance(each, FINAL_ERRORS) for each in causes_of(error)):
            return FailureDecision.RAISE
        if not is_planned(error):
            self.failures = 1 if self._got_further() else self.failures + 1
            if self.failures > MAX_FAILURES:
                return FailureDecision.RAISE
        self.send("fault", message=words_of(error, self.resources))
        return FailureDecision.RETRY

    def _lacks_resources(self, error: TrainingFailedError) -> bool:
        return isinstance(causes_of(error)[0], WorkerGroupStartupTimeoutError)

    def _decide_to_wait(self) -> FailureDecision:
        now = time.monotonic()
        if self.waiting_since is None:
            self.waiting_since = now - START_TIMEOUT
            self.send("waiting", message=lack_of(self.resources))
        limit = patience(self.resources, has_trained=self.furthest_step >= 0)
        return FailureDecision.RETRY if now - self.waiting_since < limit - 1 else FailureDecision.RAISE

    def _got_further(self) -> bool:
        try:
            step = self.run.read_progress().step
        except RunStoreError:
            return False
        got_further, self.furthest_step = step > self.furthest_step, max(step, self.furthest_step)
        return got_further


def causes_of(error: TrainingFailedError) -> list[Exception]:
    """Return the errors behind a failure, those that caused others first."""
    if isinstance(error, WorkerGroupError):
        return sorted(error.worker_failures.values(), key=_is_consequence)
    return [error.controller_failure if isinstance(error, ControllerError) else error]


def _is_consequence(error: Exception) -> bool:
    """Return whether an error only says that another worker has failed: it lost the connection, or waited."""
    return bool(re.search(r"connection|timed out|timeout|gloo|nccl|^worker \d", str(error), re.IGNORECASE))


def is_planned(error: TrainingFailedError) -> bool:
    """Return whether the workers left because they were asked to."""
    return isinstance(error, PreemptionError) or any(isinstance(each, LeavingError) for each in causes_of(error))


def words_of(error: TrainingFailedError, resources: Resources) -> str:
    """Return a failure in one line."""
    if isinstance(error, WorkerGroupError):
        failures = error.worker_failures
        first = causes_of(error)[0]
        ranks = [rank for rank in sorted(failures) if type(failures[rank]) is type(first)]
        who = "worker" + ("s " if len(ranks) > 1 else " ") + ", ".join(map(str, ranks))
        if isinstance(first, WorkerHealthCheckTimeoutError):
            return f"{who} did not answer for {HANG_SECONDS} s (stopped, or hangs)"
        if isinstance(first, (WorkerHealthCheckFailedError, RayActorError)):
            dead = first.health_check_failure if isinstance(first, WorkerHealthCheckFailedError) else first
            if getattr(dead, "preempted", False):
                return f"the node of {who} was taken away"
            return f"{who} died (killed, crashed, out of memory, or its node was lost)"
        if isinstance(first, LeavingError):
            return "the workers have left after a checkpoint, because the nodes of the cluster change"
        if isinstance(first, FINAL_ERRORS):
            return _first_line(first)
        if _is_consequence(first):
            waited = re.search("timed out|timeout|not answered", str(first), re.IGNORECASE)
            what = "waited too long for another worker" if waited else "lost the connection to another worker"
            return f"{who} {what}"
        return f"{who}: {type(first).__name__}: {_first_line(first)}"
    (first,) = causes_of(error)
    if isinstance(first, WorkerGroupStartupTimeoutError):
        return lack_of(resources)
    if isinstance(first, InsufficientClusterResourcesError):
        return f"{lack_of(resources)}, and cannot get more"
    if isinstance(first, (WorkerGroupStartupFailedError, RayActorError)):
        return "a worker died while it started"
    if isinstance(first, PreemptionError):
        return "a node was taken away"
    return f"Ray's controller failed ({type(first).__name__}: {_first_line(first)})"


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "")[:300]


def lack_of(resources: Resources) -> str:
    """Return what the cluster has and what the training needs, in one line."""
    now = int(ray.cluster_resources().get(resources.kind, 0))
    needed = resources.per_worker[resources.kind] * (resources.min_workers or resources.workers)
    return f"the cluster has {now} {resources.kind}s, and the training needs {needed}"


def patience(resources: Resources, has_trained: bool) -> float:
    """Return for how many seconds to wait for resources.

    A cluster in which the training has run before has lost a node, which may come back.
    """
    return 60 * START_MINUTES if has_trained or may_grow(resources) else JOIN_SECONDS


def may_grow(resources: Resources) -> bool:
    """Return whether the cluster can add what the training needs, as far as its configuration says."""
    limits = cluster_state.get_max_resources_from_cluster_config() or {}
    most = max(limits.get(resources.kind, 0), ray.cluster_resources().get(GROWTH[resources.kind], 0))
    return bool(most >= resources.per_worker[resources.kind] * (resources.min_workers or resources.workers))
