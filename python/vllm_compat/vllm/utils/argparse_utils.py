import argparse


class FlexibleArgumentParser(argparse.ArgumentParser):
    """Takes '_' for '-' in the names of flags."""

    def parse_known_args(self, args=None, namespace=None):
        if args is None:
            import sys
            args = sys.argv[1:]
        return super().parse_known_args([self._with_dashes(word) for word in args], namespace)

    @staticmethod
    def _with_dashes(word):
        if not word.startswith("--"):
            return word
        name, equals, value = word.partition("=")
        return "--" + name[2:].replace("_", "-") + equals + value
