"""Ends of processes that are not there: an engine's ranks are threads, which end with its LLM."""

import gc


def destroy_model_parallel() -> None:
    pass


def destroy_distributed_environment() -> None:
    pass


def cleanup_dist_env_and_memory(shutdown_ray: bool = False) -> None:
    gc.collect()


def get_tensor_model_parallel_rank() -> int:
    return 0


def get_world_size() -> int:
    """Of processes."""
    return 1
