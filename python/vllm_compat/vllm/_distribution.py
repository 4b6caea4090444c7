"""importlib.metadata.version("vllm") for programs that look at it: the distribution is called tiercel-vllm."""

import importlib.metadata
import pathlib
import sys

from tiercel import __version__


class _Distribution(importlib.metadata.Distribution):
    def read_text(self, filename):
        return f"Metadata-Version: 2.1\nName: vllm\nVersion: {__version__}\n" if filename == "METADATA" else None

    def locate_file(self, path):
        return pathlib.Path(__file__).parent.parent / path


class _Finder(importlib.metadata.DistributionFinder):
    def find_spec(self, *_):
        return None  # modules are found as ever

    def find_distributions(self, context=importlib.metadata.DistributionFinder.Context()):
        return [_Distribution()] if context.name == "vllm" else []


sys.meta_path.append(_Finder())
